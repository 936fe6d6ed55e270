#!/usr/bin/env bash
# The console in a real browser:   tests/console/shot.sh
#
# Starts `tollgate demo`, waits until its load has ended, and looks at the console in
# headless Chromium: without JavaScript all figures are there; with it the page renews
# itself under its own content policy. Leaves two pictures (desktop, narrow and dark) in
# $target/console for a person to look at. Without Chromium it says so and tests nothing.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

target=${CARGO_TARGET_DIR:-$PWD/target}
out=$target/console
mkdir -p "$out"
: >"$out/browser.log"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ]; then
    echo "left out: the console in a browser: no chromium (Debian: apt-get install chromium)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

passed=0 failed=0
# check PROMISE COMMAND…: the command tells whether it is kept.
check() {
    local promise=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "not kept: $promise"
    fi
}

# Two readers: one with JavaScript, one that has turned it off in the settings.
# (--blink-settings=scriptEnabled=false would also stop --dump-dom.)
readers=$(mktemp -d)
mkdir -p "$readers/off/Default"
echo '{"profile":{"default_content_setting_values":{"javascript":2}}}' \
    >"$readers/off/Default/Preferences"
# look READER ARGUMENT…
look() {
    local reader=$1
    shift
    timeout 60 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --enable-logging=stderr --user-data-dir="$readers/$reader" "$@" 2>>"$out/browser.log"
}

coproc demo { exec "$target/debug/tollgate" demo 2>&1; }
stop() {
    # Bash forgets the number when the process has ended.
    [ -z "${demo_PID:-}" ] || kill -INT "$demo_PID" 2>/dev/null
    rm -rf "$readers"
}
trap stop EXIT

# The demo says where its console is when its load has ended.
url=
while [ -z "$url" ] && IFS= read -r -t 120 line <&"${demo[0]}"; do
    case $line in *"console "*"http://"*) url=http://${line##*http://} ;; esac
done
if [ -z "$url" ]; then
    echo "the demo did not say where its console is"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

plain=$out/plain.html live=$out/live.html
look off --dump-dom "$url" >"$plain"
# Virtual time: enough for the script to renew the page.
look on --virtual-time-budget=5000 --dump-dom "$url" >"$live"
look on --window-size=1280,1100 --screenshot="$out/desktop.png" "$url" >/dev/null
look on --window-size=500,2100 --blink-settings=preferredColorScheme=0 \
    --screenshot="$out/dark.png" "$url" >/dev/null

has() { grep -Eq "$2" "$1"; }
for page in "$plain" "$live"; do
    what=$(basename "$page" .html)
    check "$what: a model and what it cost" has "$page" 'gpt-4o-mini</bdi>.*<data [^>]*>\$0\.[0-9]*[1-9]'
    check "$what: all four classes" has "$page" 'emergency<.*vip<.*normal<.*batch<'
    check "$what: the hit ratio by tier" has "$page" 'memory</th><td>[0-9.]+ %'
    check "$what: the upstream answers" has "$page" 'class="good">answering'
    check "$what: the ledger" has "$page" 'Every call is kept'
    check "$what: tiny money is not shown as nothing" bash -c '! grep -q "\$0\.0000*<" "$1"' _ "$page"
done
check "without JavaScript there is no button that does nothing" has "$plain" 'id="pause"[^>]* hidden'
check "with it the refresh can be paused" bash -c '! grep -q "id=\"pause\"[^>]* hidden" "$1"' _ "$live"
check "the page renewed itself and had no trouble" has "$live" '<body data-renewals="[1-9]'
# What a browser refuses it says in its log.
check "nothing on the page breaks its own policy" bash -c '! grep -qi "content security policy" "$1"' _ "$out/browser.log"
check "a picture of the desktop" test -s "$out/desktop.png"
check "a picture, narrow and dark" test -s "$out/dark.png"

echo "pictures: $out/desktop.png $out/dark.png"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
