"""What is asked and answered, and wrk's part in asking it."""

import itertools
import json

from machine import Wrong, run_pinned

CONNECTIONS = 64
MODEL = "gpt-4o-mini"
PATH = "/v1/chat/completions"
ANSWER_BYTES = 600

# Twelve digits tell bodies apart: which run, and which call of it.
RUNS = itertools.count(1)


def padded(build, size):
    """`build(filler)` with as much filler as makes it `size` bytes long."""
    short = len(build(""))
    words = "The tide turns and the boats turn with it. " * (size // 40 + 1)
    return build(words[: size - short])


def answer():
    """A chat completion of 600 bytes, as a provider sends it."""
    def build(text):
        return json.dumps({
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion",
            "created": 1741570283, "model": MODEL,
            "choices": [{
                "index": 0, "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 219, "completion_tokens": 47, "total_tokens": 266},
            "system_fingerprint": "fp_06737a9306"}, separators=(",", ":"))
    return padded(build, ANSWER_BYTES)


def question(size, number="000000000000"):
    """A chat call of `size` bytes; calls with another number ask something else."""
    def build(text):
        return json.dumps({
            "model": MODEL, "temperature": 0,
            "messages": [{"role": "system", "content": "You are a harbour master."},
                         {"role": "user", "content": f"{number} {text}"}]},
            separators=(",", ":"))
    return padded(build, size)


REPORT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"calls":%d,"us":%d,"broken":%d,"refused":%d,"slow":%d,"p50":%d,"p99":%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def same_script(size):
    """POST one body again and again."""
    return f"""wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [==[{question(size)}]==]
{REPORT}"""


def different_script(size, authority):
    """POST bodies of which no two are equal, in one run of the script or in two."""
    mark = "@" * 12
    before, after = question(size, mark).split(mark)
    head = (f"POST {PATH} HTTP/1.1\\r\\nhost: {authority}\\r\\n"
            f"content-type: application/json\\r\\ncontent-length: {size}\\r\\n\\r\\n")
    start = next(RUNS) * 10**8
    return f"""local number = {start}
local before = "{head}" .. [==[{before}]==]
local after = [==[{after}]==]
request = function()
  number = number + 1
  return before .. string.format("%012.0f", number) .. after
end
{REPORT}"""


def get_script():
    return REPORT


def wrk(core, folder, script, url, seconds):
    """Runs wrk; what it counted."""
    path = folder / "wrk.lua"
    path.write_text(script())
    told = run_pinned(core, [
        "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s",
        "-s", str(path), url], seconds + 60)
    for line in told.splitlines():
        if line.startswith("RESULT "):
            counted = json.loads(line.removeprefix("RESULT "))
            if counted["broken"] or counted["refused"] or not counted["calls"]:
                raise Wrong(f"{url}: wrk saw errors:\n{told}")
            return counted
    raise Wrong(f"wrk said nothing of {url}:\n{told}")


def listen(core, binary, address, events, seconds):
    """Runs the callers of streams; what they counted, in wrk's words."""
    told = run_pinned(core, [
        binary, "listen", address, str(events), str(CONNECTIONS), str(seconds)], seconds + 60)
    heard, answers, wrong = (int(word) for word in told.split()[-3:])
    if wrong or not answers:
        raise Wrong(f"{address}: {wrong} streams were cut or wrong:\n{told}")
    return {"calls": heard, "answers": answers}
