"""What is asked and answered, and the part of wrk and of our own callers in asking it."""

import base64
import itertools
import json
import random

from machine import Wrong, run_pinned

CONNECTIONS = 64
MODEL = "gpt-4o-mini"
PATH = "/v1/chat/completions"
ANSWER_BYTES = 600
# Of the stream that is given again from the cache: some 30 KB.
REPLAY_EVENTS = 120

# Twelve digits tell bodies apart: which run, and which call of it.
RUNS = itertools.count(1)


def padded(build, size):
    """`build(filler)` with as much filler as makes it `size` bytes long."""
    short = len(build(""))
    words = "The tide turns and the boats turn with it. " * (size // 40 + 1)
    return build(words[: size - short])


def answer(size=ANSWER_BYTES):
    """A chat completion of `size` bytes, as a provider sends it."""
    def build(text):
        return json.dumps({
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion",
            "created": 1741570283, "model": MODEL,
            "choices": [{
                "index": 0, "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 219, "completion_tokens": 47, "total_tokens": 266},
            "system_fingerprint": "fp_06737a9306"}, separators=(",", ":"))
    return padded(build, size)


def stream(events):
    """The same in so many events, as a provider streams it to one who asks for usage."""
    def event(choices, usage):
        return "data: " + json.dumps({
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion.chunk",
            "created": 1741570283, "model": MODEL, "system_fingerprint": "fp_06737a9306",
            "choices": choices, "usage": usage}, separators=(",", ":")) + "\n\n"

    def choice(delta, reason=None):
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]

    words = [event(choice({"content": f" w{place:05}"}), None) for place in range(1, events)]
    usage = {"prompt_tokens": 219, "completion_tokens": events, "total_tokens": 219 + events}
    first, last = event(choice({"role": "assistant", "content": ""}), None), event(choice({}, "stop"), None)
    return "".join([first, *words, last, event([], usage), "data: [DONE]\n\n"])


# Of a list of texts: how many are known, and how many are new in each call.
KNOWN, NEW = 93, 7
EMBEDDINGS = "/v1/embeddings"
EMBEDDER = "text-embedding-3-small"
# A number of this many digits takes its place.
MARK = "@" * 12


def vectors(count):
    """What a provider answers to a list of so many texts: vectors of 384 numbers, as its SDK asks for them."""
    vector = base64.b64encode(random.Random(count).randbytes(384 * 4)).decode()
    data = [{"object": "embedding", "index": place, "embedding": vector} for place in range(count)]
    usage = {"prompt_tokens": 16 * count, "total_tokens": 16 * count}
    return json.dumps({"object": "list", "data": data, "model": EMBEDDER, "usage": usage}, separators=(",", ":"))


def texts(wanted):
    return json.dumps({"model": EMBEDDER, "input": wanted, "encoding_format": "base64"}, separators=(",", ":"))


def known_texts(first, count):
    return [f"Berth {place:04} is dredged to nine metres and has a crane of its own." for place in range(first, first + count)]


def mixed_texts():
    """A list of which `NEW` are told apart by a number, spread among those that are known."""
    listed = known_texts(0, KNOWN)
    for nth in range(NEW):
        listed.insert(nth * (KNOWN + NEW) // NEW, f"{MARK}-{nth} is a ship that has not called here before, and asks.")
    return texts(listed)


def mixed_script(authority):
    """POST lists of texts, each with as many new ones."""
    body = mixed_texts()
    head = (f"POST {EMBEDDINGS} HTTP/1.1\\r\\nhost: {authority}\\r\\n"
            f"content-type: application/json\\r\\ncontent-length: {len(body)}\\r\\n\\r\\n")
    start = next(RUNS) * 10**8
    return f"""local number = {start}
local head, body = "{head}", [==[{body}]==]
request = function()
  number = number + 1
  return head .. body:gsub("{MARK}", string.format("%012.0f", number))
end
{REPORT}"""


def shuffled(count, size, seed=1):
    """One question, its members in `count` orders; as JSON it is the same each time."""
    order, asked = random.Random(seed), json.loads(question(size))

    def shuffle(value):
        if isinstance(value, list):
            return [shuffle(one) for one in value]
        if not isinstance(value, dict):
            return value
        members = [(name, shuffle(one)) for name, one in value.items()]
        order.shuffle(members)
        return dict(members)
    asked.update(top_p=1, n=1, seed=7, user="harbour", presence_penalty=0, frequency_penalty=0)
    return [json.dumps(shuffle(asked), separators=(",", ":")) for _ in range(count)]


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


def same_stream_script(size):
    """The same body again and again, answered as a stream."""
    return same_script(size).replace(question(size), stream_question(size))


def stream_question(size):
    asked = json.loads(question(size))
    return json.dumps({**asked, "stream": True, "stream_options": {"include_usage": True}},
                      separators=(",", ":"))


def turns_script(bodies):
    """POST one body after another, and again from the first."""
    listed = ",\n".join(f"[==[{body}]==]" for body in bodies)
    return f"""local bodies = {{
{listed}
}}
local turn = 0
request = function()
  turn = turn % #bodies + 1
  return wrk.format("POST", nil, {{["content-type"] = "application/json"}}, bodies[turn])
end
{REPORT}"""


def paced(script, per_s):
    """As `script`, but each caller waits between its calls, so that all make `per_s`."""
    # Not the same wait for all: they would keep in step and measure their own queue.
    most_ms = 2 * CONNECTIONS / per_s * 1e3
    return f"math.randomseed(7)\ndelay = function() return math.random() * {most_ms:.3f} end\n{script}"


def get_script():
    return REPORT


def wrk(core, folder, script, url, seconds, connections=CONNECTIONS):
    """Runs wrk; what it counted."""
    path = folder / "wrk.lua"
    path.write_text(script)
    told = run_pinned(core, [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
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


def burst(core, binary, address, method, events, callers, seconds):
    """Bursts of callers who ask the same new thing at once."""
    told = run_pinned(core, [
        binary, "burst", address, method, str(events), str(callers), str(seconds)], seconds + 90)
    bursts, wrong, calls, p50, p99 = (int(word) for word in told.split()[-5:])
    if wrong or not calls:
        raise Wrong(f"{address}: {wrong} answers of a burst were cut or wrong:\n{told[:2000]}")
    return {"calls": calls, "bursts": bursts, "p50": p50, "p99": p99}


def first(core, binary, address, events, seconds):
    """One caller of streams, one after another; the times are to the first byte."""
    told = run_pinned(core, [binary, "first", address, str(events), str(seconds)], seconds + 60)
    calls, p50, p99 = (int(word) for word in told.split()[-3:])
    return {"calls": calls, "p50": p50, "p99": p99}
