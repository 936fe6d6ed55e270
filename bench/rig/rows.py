"""The rows: who is measured at what, and that the answers are right."""

import json

import load
from contest import Contestant, ask, called
from machine import Wrong, until
from proxies import KIB

CROWD = 1000
CROWD_EVENTS = 40
FIRST_EVENTS = 10
SHUFFLES = 200

ROWS = {
    "pass": "a call passed on",
    "miss": "each call a new one: asked and stored",
    "hit1k": "a hit, 1 KiB asked", "hit16k": "16 KiB asked", "hit128k": "128 KiB", "hit1m": "1 MiB",
    "shuffled": "a hit, the members of its JSON in another order each time",
    "ans16k": "a hit, 16 KiB answered", "ans1m": "1 MiB answered",
    "half": "hit1k, asked half as fast as the slowest there can",
    "redis": "a hit in Redis, not in memory; one caller",
    "pass10k": "10 KiB of answer passed on", "store10k": "the same, and stored in memory",
    "redis10k": "the same, and in Redis with zstd",
    "items": f"a list of {load.KNOWN + load.NEW} texts of which {load.KNOWN} are known",
    "sse": "an event of a stream", "replay": "a stored stream, given as a stream",
    "first": "a stream's first byte; one caller",
    "burst": f"{CROWD} callers ask the same new thing at once",
}
NEED_REDIS = ("redis", "redis10k")
# Whose memory is looked at in the end: those under the ordinary loads.
LASTING = ("pass", "content", "sse")


class Bench:
    """The processes that rows are made of; a Tollgate is started when a row asks for it."""

    def __init__(self, start, upstream, emitters, nginx, peers, redis):
        self.start, self.upstream, self.nginx, self.peers, self.redis = start, upstream, nginx, peers, redis
        self.streaming, self.crowd, self.fast = emitters
        self.tollgates = {}
        self.numbers = iter(range(10**12 - 1, 0, -1))

    def tollgate(self, name, upstream, cache, redis=None):
        if name not in self.tollgates:
            one = self.tollgates[name] = self.start(name, upstream, cache, redis)
            if redis:
                until(lambda: one.reading("tollgate_store_up") == 1, f"{name} does not reach Redis")
        return self.tollgates[name]

    def content(self):
        return self.tollgate("content", self.upstream.port, CONTENT)

    def fresh(self, size=KIB):
        return load.question(size, f"{next(self.numbers):012d}")


CONTENT = "{ mode: content, ttl: 1h }"


def wrk(script, connections=load.CONNECTIONS):
    """Work of wrk by a script that is made afresh for each run."""
    return lambda authority: (
        lambda ring, seconds: ring.wrk(authority, script(authority), seconds, connections))


def same(size):
    return wrk(lambda _: load.same_script(size))


def different(size):
    return wrk(lambda authority: load.different_script(size, authority))


GET = wrk(lambda _: load.get_script())


def tollgate_at(row, one, work, forwarded, probe, name="tollgate", upstream=None):
    return Contestant(row, name, one.pid, one.authority, work(one.authority), forwarded, probe, upstream=upstream)


def peer_at(row, name, peer, place, work, forwarded, body=None, answer=None):
    """Another proxy: a GET where there is no body to ask with."""
    authority = peer.authorities[place]
    method = "GET" if body is None else "POST"
    return Contestant(row, name, peer.pid, authority, work(authority), forwarded,
                      lambda: ask(authority, body, "", answer, method))


def hit(one, body, answer=None):
    def probe():
        ask(one.authority, body, "", answer)
        ask(one.authority, body, "tollgate; hit", answer)
    return probe


def cached(bench, row, place, answer=None, names=("varnish", "haproxy")):
    """The hit by URL of everybody else."""
    yield peer_at(row, "nginx GET hit", bench.nginx, place, GET, 0, answer=answer)
    for name in names:
        if name in bench.peers:
            yield peer_at(row, f"{name} GET hit", bench.peers[name], place, GET, 0, answer=answer)


def row_pass(bench):
    one, small = bench.tollgate("pass", bench.upstream.port, "off"), load.question(KIB)
    yield tollgate_at("pass", one, same(KIB), 1, lambda: ask(one.authority, small, "fwd=bypass"))
    yield peer_at("pass", "nginx", bench.nginx, "passing", same(KIB), 1, small)


def row_miss(bench):
    one = bench.content()
    yield tollgate_at("miss", one, different(KIB), 1, miss_then_hit(bench, one))
    yield peer_at("miss", "nginx POST store", bench.nginx, "different", different(KIB), 1, bench.fresh())


def miss_then_hit(bench, one, answer=None):
    def probe():
        body = bench.fresh()
        ask(one.authority, body, "fwd=miss", answer)
        ask(one.authority, body, "hit", answer)
    return probe


def by_size(row, size):
    """Hits by the size of what is asked: by URL it is none."""
    def build(bench):
        one, body = bench.content(), load.question(size)
        yield tollgate_at(row, one, same(size), 0, hit(one, body))
        yield from cached(bench, row, "get", names=("varnish", "haproxy") if size == KIB else ())
        post = {KIB: "post", 16 * KIB: "post16k"}.get(size)
        if post:
            yield peer_at(row, "nginx POST hit", bench.nginx, post, same(size), 0, body)
        if "varnish" in bench.peers:
            yield peer_at(row, "varnish POST hit", bench.peers["varnish"], "get", same(size), 0, body)
    return build


def row_shuffled(bench):
    one, bodies = bench.content(), load.shuffled(SHUFFLES, KIB)
    script = load.turns_script(bodies)

    def probe():
        hit(one, bodies[0])()
        for body in bodies[1:4]:
            ask(one.authority, body, "tollgate; hit")
    yield tollgate_at("shuffled", one, wrk(lambda _: script), 0, probe)


def by_answer(row, size, place):
    def build(bench):
        text = load.answer(size)
        one = bench.tollgate(row, bench.upstream.sized[size], CONTENT)
        yield tollgate_at(row, one, same(KIB), 0, hit(one, load.question(KIB), text))
        yield from cached(bench, row, place, text)
    return build


def row_half(bench):
    """All at the same pace: half of what the slower of the first two can do."""
    one, nginx = bench.content(), bench.nginx
    post, get = load.same_script(KIB), load.get_script()
    rivals = [(one.authority, post), (nginx.authorities["get"], get)]
    pace = {}

    def find_pace(ring):
        if not pace:
            most = [ring.wrk(*rival, 1) for rival in rivals]
            pace["per_s"] = min(run["calls"] / run["us"] * 1e6 for run in most) / 2

    def paced(script):
        return lambda authority: (
            lambda ring, seconds: ring.wrk(authority, load.paced(script, pace["per_s"]), seconds))
    small = load.question(KIB)
    for at in (
        tollgate_at("half", one, paced(post), 0, hit(one, small)),
        peer_at("half", "nginx GET hit", nginx, "get", paced(get), 0),
        peer_at("half", "nginx POST hit", nginx, "post", paced(post), 0, small),
    ):
        at.prepare = find_pace
        yield at


def row_redis(bench):
    one = bench.tollgate(
        "redis", bench.upstream.port, "{ mode: content, ttl: 1h, tiers: [redis], writes: through }",
        bench.redis)
    alone = wrk(lambda _: load.same_script(KIB), connections=1)

    def probe():
        ask(one.authority, load.question(KIB), "")
        ask(one.authority, load.question(KIB), "detail=redis")
    yield tollgate_at("redis", one, alone, 0, probe)


def row_pass10k(bench):
    upstream, text = bench.upstream.sized[10 * KIB], load.answer(10 * KIB)
    one = bench.tollgate("pass10k", upstream, "off")
    yield tollgate_at("pass10k", one, different(KIB), 1, lambda: ask(one.authority, bench.fresh(), "", text))
    yield peer_at("pass10k", "nginx", bench.nginx, "pass_10k", different(KIB), 1, load.question(KIB), text)


def row_store10k(bench):
    upstream, text = bench.upstream.sized[10 * KIB], load.answer(10 * KIB)
    one = bench.tollgate("store10k", upstream, CONTENT)
    yield tollgate_at("store10k", one, different(KIB), 1, miss_then_hit(bench, one, text))
    yield peer_at("store10k", "nginx POST store", bench.nginx, "store_10k", different(KIB), 1, bench.fresh(), text)


def row_redis10k(bench):
    upstream, text = bench.upstream.sized[10 * KIB], load.answer(10 * KIB)
    cache = "{ mode: content, ttl: 1h, tiers: [memory, redis] }"
    one = bench.tollgate("redis10k", upstream, cache, bench.redis)
    yield tollgate_at("redis10k", one, different(KIB), 1, miss_then_hit(bench, one, text))


def row_items(bench):
    """What is known of a list is not asked again; the others pass all of it on."""
    one, other = bench.tollgate("items", bench.upstream.few, CONTENT), bench.tollgate("lists", bench.upstream.all, "off")
    listed = load.mixed_texts()

    def known():
        return one.reading("tollgate_cache_items_total", 'outcome="hit"')

    def new(authority):
        vectors_of(authority, listed.replace(load.MARK, f"{next(bench.numbers):012d}"), load.KNOWN + load.NEW)

    def probe():
        for first in range(0, load.KNOWN, load.NEW):
            vectors_of(one.authority, load.texts(load.known_texts(first, load.NEW)), load.NEW)
        before = known()
        new(one.authority)
        if known() - before != load.KNOWN:
            raise Wrong(f"of a list {known() - before:.0f} were known, not {load.KNOWN}")
    yield tollgate_at("items", one, wrk(load.mixed_script), 1, probe)
    yield tollgate_at("items", other, wrk(load.mixed_script), 1, lambda: new(other.authority), "tollgate, off")
    lists = bench.nginx.authorities["lists"]
    yield Contestant("items", "nginx", bench.nginx.pid, lists, wrk(load.mixed_script)(lists), 1, lambda: new(lists))


def vectors_of(authority, body, count):
    told = json.loads(called(authority, body, load.EMBEDDINGS)[1])
    if [one["index"] for one in told["data"]] != list(range(count)):
        raise Wrong(f"{authority}: not {count} vectors in their order: {str(told)[:500]}")


def row_sse(bench):
    one, emitter = bench.tollgate("sse", bench.streaming.port, CONTENT), bench.streaming

    def listen(authority):
        return lambda ring, seconds: load.listen(
            ring.other_core, ring.binary, authority, emitter.events, seconds)
    yield tollgate_at("sse", one, listen, None, lambda: None)
    yield Contestant("sse", "nginx", bench.nginx.pid, bench.nginx.authorities["streaming"],
                     listen(bench.nginx.authorities["streaming"]))


def row_replay(bench):
    one, text = bench.tollgate("replay", bench.upstream.stream, CONTENT), load.stream(load.REPLAY_EVENTS)
    script = load.same_stream_script(KIB)
    yield tollgate_at("replay", one, wrk(lambda _: script), 0, hit(one, load.stream_question(KIB), text))
    yield from cached(bench, "replay", "get_stream", text)


def row_first(bench):
    one, emitter = bench.tollgate("first", bench.fast.port, CONTENT), bench.fast

    def first(authority):
        return lambda ring, seconds: load.first(
            ring.other_core, ring.binary, authority, emitter.events, seconds)
    yield tollgate_at("first", one, first, 1, lambda: None, upstream=emitter)
    yield Contestant("first", "direct", emitter.pid, emitter.authority, first(emitter.authority))
    through = bench.nginx.authorities["first"]
    yield Contestant("first", "nginx", bench.nginx.pid, through, first(through))


def row_burst(bench):
    one, emitter = bench.tollgate("burst", bench.crowd.port, CONTENT), bench.crowd

    def burst(method):
        return lambda authority: lambda ring, seconds: load.burst(
            ring.other_core, ring.binary, authority, method, emitter.events, CROWD, seconds)
    yield tollgate_at("burst", one, burst("POST"), "burst", lambda: None, upstream=emitter)
    by_url = bench.tollgate("burst-get", bench.crowd.port, "{ mode: http }")
    yield tollgate_at("burst", by_url, burst("GET"), "burst", lambda: None, "tollgate GET", emitter)
    for name, peer in {"nginx": bench.nginx, "varnish": bench.peers.get("varnish")}.items():
        if peer:
            authority = peer.authorities["crowd"]
            yield Contestant("burst", f"{name} GET", peer.pid, authority, burst("GET")(authority),
                             "burst", upstream=emitter)


BUILD = {
    "pass": row_pass, "miss": row_miss,
    "hit1k": by_size("hit1k", KIB), "hit16k": by_size("hit16k", 16 * KIB),
    "hit128k": by_size("hit128k", 128 * KIB), "hit1m": by_size("hit1m", KIB * KIB),
    "shuffled": row_shuffled,
    "ans16k": by_answer("ans16k", 16 * KIB, "get_16k"), "ans1m": by_answer("ans1m", KIB * KIB, "get_1m"),
    "half": row_half, "redis": row_redis,
    "pass10k": row_pass10k, "store10k": row_store10k, "redis10k": row_redis10k,
    "items": row_items, "sse": row_sse, "replay": row_replay, "first": row_first, "burst": row_burst,
}


def contestants(rows, bench):
    """Everything that is measured, Tollgate before its peers in each row."""
    return [one for row in ROWS if row in rows for one in BUILD[row](bench)]


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
