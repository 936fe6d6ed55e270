#!/usr/bin/env bash
# The alerts of deploy/prometheus, judged by Prometheus' own tool: they are well-formed, and
# fire at what alerts*.yaml say and at nothing less. Needs promtool (Debian: prometheus).
set -uo pipefail
cd "$(dirname "$0")" || exit 2
passed=0 failed=0
tell() { if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }
for file in ../../deploy/prometheus/*.yaml; do tell promtool check rules "$file"; done
for file in alerts*.yaml; do tell promtool test rules "$file"; done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
