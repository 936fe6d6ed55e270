"""One measurement: a proxy at a job, its answers checked before and after, and its cost."""

import dataclasses
import http.client
import time
import typing

import load
from machine import Wrong, core_busy_seconds, cpu_seconds

# Calls that the upstream may see in a run of hits: those of the checks around it.
CHECKS_MAX = 8


@dataclasses.dataclass
class Contestant:
    """One proxy at one job."""

    row: str
    name: str
    pid: int
    authority: str
    # Asks for so many seconds; what was counted.
    work: typing.Callable[["Ring", int], dict]
    # How many of the calls the upstream must see: all (1), none (0), one a burst ("burst"),
    # or it is not asked (None).
    forwarded: typing.Union[int, str, None] = None
    probe: typing.Callable[[], None] = lambda: None
    # What must be known before the clock runs.
    prepare: typing.Callable[["Ring"], None] = lambda ring: None
    # Who counts what is forwarded; the usual upstream if there is none.
    upstream: typing.Any = None


class Ring:
    """Where rounds are held: the cores, the upstream that counts, the wrk that asks."""

    def __init__(self, processes, binary, upstream, proxy_core, other_core):
        self.processes, self.binary, self.upstream = processes, binary, upstream
        self.proxy_core, self.other_core = proxy_core, other_core

    def wrk(self, authority, script, seconds, connections=load.CONNECTIONS):
        url = f"http://{authority}{load.PATH}"
        return load.wrk(self.other_core, self.processes.folder, script, url, seconds, connections)

    def measure(self, one, seconds):
        """One repetition: the answers before and after are right, and what it cost."""
        one.probe()
        one.prepare(self)
        upstream = one.upstream or self.upstream
        asked = upstream.calls()
        busy, cpu, start = core_busy_seconds(self.proxy_core), cpu_seconds(one.pid), time.monotonic()
        counted = one.work(self, seconds)
        cpu = cpu_seconds(one.pid) - cpu
        busy = core_busy_seconds(self.proxy_core) - busy
        wall = time.monotonic() - start
        check_forwarded(one, counted, upstream.calls() - asked)
        one.probe()
        self.processes.check()
        span = counted.get("us", wall * 1e6) / 1e6
        return {
            "cpu_us": cpu / counted["calls"] * 1e6, "per_s": counted["calls"] / span,
            "p50_us": counted.get("p50"), "p99_us": counted.get("p99"),
            "core_share": cpu / wall, "others_share": max(busy - cpu, 0) / wall,
        }


def check_forwarded(one, counted, seen):
    calls = counted["calls"]
    if one.forwarded == 1 and seen < calls:
        raise Wrong(f"{one.row}, {one.name}: of {calls} calls the upstream saw {seen}")
    if one.forwarded == 0 and seen > CHECKS_MAX:
        raise Wrong(f"{one.row}, {one.name}: the upstream was asked {seen} times in a row of hits")
    if one.forwarded == "burst" and seen != counted["bursts"]:
        raise Wrong(f"{one.row}, {one.name}: of {counted['bursts']} bursts the upstream saw {seen} calls")


def ask(authority, body, status, answer=None, method="POST"):
    """One call; `status` must be part of its `cache-status`."""
    said, text = called(authority, body, load.PATH, method)
    if text != (answer or load.answer()):
        raise Wrong(f"{authority} answered something else: {text[:500]}")
    if status not in said:
        raise Wrong(f"{authority}: cache-status is `{said}`, not `{status}`")


def called(authority, body, path, method="POST"):
    """One call: its `cache-status`, and the answer."""
    connection = http.client.HTTPConnection(authority, timeout=10)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        told = connection.getresponse()
        text = told.read().decode()
        if told.status != 200:
            raise Wrong(f"{authority} answered {told.status}: {text[:500]}")
        return told.headers.get("cache-status", ""), text
    finally:
        connection.close()
