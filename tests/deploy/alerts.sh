#!/usr/bin/env bash
# The alerts of deploy/prometheus, judged by Prometheus' own tool: they are well-formed, and
# fire at what alerts*.yaml say and at nothing less. Needs promtool (Debian: prometheus).
set -uo pipefail
cd "$(dirname "$0")" || exit 2
passed=0 failed=0
for command in "check rules ../../deploy/prometheus/rules.yaml" "test rules alerts.yaml" "test rules alerts-calls.yaml"; do
    # Split on purpose: words of a command, no names of others' files.
    # shellcheck disable=SC2086
    if promtool $command; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
