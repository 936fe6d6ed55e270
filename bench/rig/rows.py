"""The rows: who is measured at what, that the answers are right, and the aims."""

import dataclasses
import http.client
import time
import typing

import load
from machine import Wrong, core_busy_seconds, cpu_seconds

KIB = 1024
EVENTS_PER_STREAM = 400

# Tollgate's CPU as a multiple of the other's, at the most (issue 2).
AIMS = {
    ("pass", "nginx"): 1.3,
    ("hit1k", "nginx GET hit"): 1.2,
    ("hit1k", "nginx POST hit"): 0.75,
    ("hit16k", "nginx GET hit"): 1.3,
    ("sse", "nginx"): 1.35,
}
ROWS = ("pass", "miss", "hit1k", "hit16k", "sse")


@dataclasses.dataclass
class Contestant:
    """One proxy at one job."""

    row: str
    name: str
    pid: int
    authority: str
    # Made afresh for each run; `None` where wrk has no part.
    script: typing.Optional[typing.Callable[[], str]]
    # How many of the calls the upstream must see: all (1), none (0), or it is not asked (None).
    forwarded: typing.Optional[int]
    probe: typing.Callable[[], None]


def ask(authority, body, expected_status, method="POST", path=load.PATH):
    """One call; its `cache-status`."""
    connection = http.client.HTTPConnection(authority, timeout=10)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise Wrong(f"{authority}{path} answered {answer.status}: {text[:500]}")
        if text != load.answer():
            raise Wrong(f"{authority}{path} answered something else: {text[:500]}")
        told = answer.headers.get("cache-status", "")
        if expected_status not in told:
            raise Wrong(f"{authority}{path}: cache-status is `{told}`, not `{expected_status}`")
    finally:
        connection.close()


def contestants(rows, nginx, tollgates):
    """Everything that is measured, Tollgate before its peers in each row."""
    passing, content = tollgates["pass"].authority, tollgates["content"].authority
    small, large = load.question(KIB), load.question(16 * KIB)
    numbers = iter(range(10**12 - 1, 0, -1))

    def fresh():
        return load.question(KIB, f"{next(numbers):012d}")

    def miss_then_hit():
        body = fresh()
        ask(content, body, "fwd=miss")
        ask(content, body, "hit")

    def hit(body):
        def probe():
            ask(content, body, "")
            ask(content, body, "tollgate; hit")
        return probe

    def nginx_at(row, name, place, script, forwarded, body=None, method="POST"):
        authority = nginx.authorities[place]
        return Contestant(row, name, nginx.pid, authority, script, forwarded,
                          lambda: ask(authority, body, "", method))

    def tollgate_at(row, which, script, forwarded, probe):
        one = tollgates[which]
        return Contestant(row, "tollgate", one.pid, one.authority, script, forwarded, probe)

    def post():
        return load.same_script(KIB)

    def post_large():
        return load.same_script(16 * KIB)

    def different(authority):
        return lambda: load.different_script(KIB, authority)

    get, nothing = load.get_script, lambda: None
    every = [
        tollgate_at("pass", "pass", post, 1, lambda: ask(passing, small, "fwd=bypass")),
        nginx_at("pass", "nginx", "passing", post, 1, small),
        tollgate_at("miss", "content", different(content), 1, miss_then_hit),
        nginx_at("miss", "nginx POST store", "different",
                 different(nginx.authorities["different"]), 1, fresh()),
        tollgate_at("hit1k", "content", post, 0, hit(small)),
        nginx_at("hit1k", "nginx GET hit", "get", get, 0, method="GET"),
        nginx_at("hit1k", "nginx POST hit", "post", post, 0, small),
        tollgate_at("hit16k", "content", post_large, 0, hit(large)),
        nginx_at("hit16k", "nginx GET hit", "get", get, 0, method="GET"),
    ]
    if "sse" in rows:
        streaming = nginx.authorities["streaming"]
        every += [
            tollgate_at("sse", "sse", None, None, nothing),
            Contestant("sse", "nginx", nginx.pid, streaming, None, None, nothing),
        ]
    return [one for one in every if one.row in rows]


class Ring:
    """Where rounds are held: the cores, the upstream that counts, the wrk that asks."""

    def __init__(self, processes, binary, upstream, events, proxy_core, other_core):
        self.processes, self.binary = processes, binary
        self.upstream, self.events = upstream, events
        self.proxy_core, self.other_core = proxy_core, other_core

    def load(self, one, seconds):
        if one.row == "sse":
            return load.listen(
                self.other_core, self.binary, one.authority, self.events, seconds)
        url = f"http://{one.authority}{load.PATH}"
        return load.wrk(self.other_core, self.processes.folder, one.script, url, seconds)

    def measure(self, one, seconds):
        """One repetition: the answers before and after are right, and what it cost."""
        one.probe()
        asked = self.upstream.calls()
        busy, cpu, start = core_busy_seconds(self.proxy_core), cpu_seconds(one.pid), time.monotonic()
        counted = self.load(one, seconds)
        cpu = cpu_seconds(one.pid) - cpu
        busy = core_busy_seconds(self.proxy_core) - busy
        wall = time.monotonic() - start
        self.check_forwarded(one, counted["calls"], self.upstream.calls() - asked)
        one.probe()
        self.processes.check()
        span = counted.get("us", wall * 1e6) / 1e6
        return {
            "cpu_us": cpu / counted["calls"] * 1e6, "per_s": counted["calls"] / span,
            "p50_us": counted.get("p50"), "p99_us": counted.get("p99"),
            "core_share": cpu / wall, "others_share": max(busy - cpu, 0) / wall,
        }

    @staticmethod
    def check_forwarded(one, calls, seen):
        if one.forwarded == 1 and seen < calls:
            raise Wrong(f"{one.row}, {one.name}: of {calls} calls the upstream saw {seen}")
        if one.forwarded == 0 and seen > 8:
            raise Wrong(f"{one.row}, {one.name}: the upstream was asked {seen} times in a row of hits")


def stream_events(seconds):
    """Short enough that a one-second row has whole streams."""
    return min(EVENTS_PER_STREAM, 200 * seconds)


def check_books(tollgates):
    """What Tollgate says of itself after the load: nothing lost, nothing unpriced.

    Not that nothing was estimated: wrk hangs up on its last calls, and those are.
    """
    for name, one in tollgates.items():
        for series in ("tollgate_ledger_dropped_total", "tollgate_unpriced_calls_total",
                       "tollgate_permits_leaked_total"):
            value = one.reading(series)
            if value:
                raise Wrong(f"tollgate ({name}): {series} is {value:.0f} after the load")
