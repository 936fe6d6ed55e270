"""A real embedding model, asked about real texts, with Tollgate before it and without.

The texts are Debian's fortunes; which is asked for next is drawn by Zipf's law, as what
people ask for is. The same draw goes to the model directly and through Tollgate, in
turns, so that a busy minute of the machine meets both. Answers through Tollgate must be
the model's, and its ledger must count what was counted here.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from model import NAME

HERE = pathlib.Path(__file__).resolve().parent
FORTUNES = pathlib.Path("/usr/share/games/fortunes")
SLICES = 10
PATIENCE_S = 120
# A text in another batch is padded otherwise, and its sums are rounded otherwise.
DIFFERENCE_MAX = 1e-4

CONFIG = """
upstreams:
  model:
    endpoints: [{{ url: "http://127.0.0.1:{port}" }}]
    concurrency: {{ limit: 1 }}
routes:
  - name: embeddings
    match: {{ path: /v1/embeddings, methods: [POST] }}
    upstream: model
    dialect: openai
    cache: {{ mode: content, ttl: 1h }}
cache: {{ namespace: embedding }}
"""


class Wrong(Exception):
    """Something that makes the numbers worthless."""


def read_options():
    parser = argparse.ArgumentParser(prog="bench/embedding/run", description=__doc__)
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=3000, help="of one text; default: 3000")
    parser.add_argument("--batches", type=int, default=100, help="calls of many texts; default: 100")
    parser.add_argument("--batch", type=int, default=16, help="texts in such a call; default: 16")
    parser.add_argument("--callers", type=int, default=4, help="who ask at a time; default: 4")
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law; default: 1.0")
    parser.add_argument("--seed", type=int, default=1, help="of the draw; default: 1")
    return parser.parse_args()


def texts(seed):
    """Every fortune once, in an order of the seed's: its place is its rank."""
    found = set()
    for file in FORTUNES.iterdir():
        if not file.suffix and file.is_file():
            for text in file.read_text(errors="replace").split("\n%\n"):
                found.add(text.strip().removesuffix("\n%").strip())
    found = sorted(found - {"", "%"})
    random.Random(seed).shuffle(found)
    return found


def draw(options, things, count):
    weights = itertools.accumulate(1 / rank**options.exponent for rank in range(1, len(things) + 1))
    return random.Random(options.seed + 1).choices(things, cum_weights=list(weights), k=count)


def in_batches(things, size):
    return [things[at : at + size] for at in range(0, len(things), size)]


def kinds(options, corpus):
    """What is asked, by the name of the kind of call."""
    size = options.batch
    mixed = draw(options, corpus, options.batches * size)
    return {
        "single": draw(options, corpus, options.calls),
        # A page of a collection is asked for as a whole, and again as a whole.
        f"pages of {size}": draw(options, in_batches(corpus, size), options.batches),
        # Known texts come again among others, hardly ever the whole batch.
        f"batches of {size}, text by text": in_batches(mixed, size),
    }


class Running:
    """A process that says in a line on `pipe` where it listens; ends with us."""

    def __init__(self, command, pipe, known_by):
        pipes = {pipe: subprocess.PIPE, "text": True, "stdin": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **pipes)
        stream = getattr(self.process, pipe)
        said = []
        for line in stream:
            if known_by in line:
                self.told = json.loads(line)
                break
            said.append(line)
        else:
            raise Wrong(f"{command[0]} ended before it served:\n{''.join(said)}")
        threading.Thread(target=stream.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def tollgate(options, folder, port):
    file = pathlib.Path(folder, "tollgate.yaml")
    file.write_text(CONFIG.format(port=port))
    command = [options.binary, "run", "-c", str(file), "--data-dir", f"{folder}/ledger"]
    for address in ("--listen", "--admin", "--metrics"):
        command += [address, "127.0.0.1:0"]
    return Running(command, "stderr", '"listeners"')


class Caller:
    """Asks over one kept connection."""

    def __init__(self, authority):
        self.connection = http.client.HTTPConnection(authority, timeout=PATIENCE_S)

    def ask(self, asked):
        """Seconds it took, how the cache answered, and the answer's bytes."""
        body = json.dumps({"model": NAME, "input": asked})
        start = time.perf_counter()
        self.connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        told = answer.read()
        took = time.perf_counter() - start
        if answer.status != 200:
            raise Wrong(f"status {answer.status}: {told[:500]}")
        status = answer.headers.get("cache-status", "")
        how = "hit" if "tollgate; hit" in status else "joined" if "collapsed" in status else "miss"
        return took, how, told


class Side:
    """One way to the model: what was asked this way, how long it took, what it cost."""

    def __init__(self, authority, options):
        self.callers = [Caller(authority) for _ in range(options.callers)]
        self.calls = []  # (seconds, hit | joined | miss)
        self.wall_s = 0.0
        self.work = {}

    def slice(self, questions, worked, judge):
        before, start = worked(), time.perf_counter()
        waiting, order = iter(enumerate(questions)), threading.Lock()
        answers = [None] * len(questions)

        def work(caller):
            while True:
                with order:
                    place, asked = next(waiting, (None, None))
                if place is None:
                    return
                answers[place] = caller.ask(asked)

        with concurrent.futures.ThreadPoolExecutor(len(self.callers)) as pool:
            for ended in [pool.submit(work, caller) for caller in self.callers]:
                ended.result()
        self.wall_s += time.perf_counter() - start
        after = worked()
        for name, value in after.items():
            self.work[name] = self.work.get(name, 0) + value - before[name]
        # Judged apart from the measured part.
        for asked, (took, how, told) in zip(questions, answers):
            judge(asked, told)
            self.calls.append((took, how))

    def count(self, *hows):
        return sum(how in hows for _, how in self.calls)

    def latency(self, *hows):
        """Median and 99th percentile in milliseconds; of all, where no `hows` are given."""
        took = sorted(took for took, how in self.calls if not hows or how in hows)
        if not took:
            return None, None
        return statistics.median(took) * 1e3, took[min(len(took) - 1, len(took) * 99 // 100)] * 1e3


class Judge:
    """Holds the model's own answers against those through Tollgate."""

    def __init__(self):
        self.known = {}

    @staticmethod
    def read(asked, told):
        told = json.loads(told)
        count = 1 if isinstance(asked, str) else len(asked)
        if [one["index"] for one in told["data"]] != list(range(count)):
            raise Wrong("an answer is out of order or not whole")
        return [one["embedding"] for one in told["data"]]

    def direct(self, asked, told):
        for text, row in zip([asked] if isinstance(asked, str) else asked, self.read(asked, told)):
            self.known.setdefault(text, row)

    def through(self, asked, told):
        for text, row in zip([asked] if isinstance(asked, str) else asked, self.read(asked, told)):
            known = self.known[text]
            if max(abs(a - b) for a, b in zip(row, known, strict=True)) > DIFFERENCE_MAX:
                raise Wrong(f"another answer than the model's to {text[:60]!r}")


def measure(options, port, questions):
    """Both sides of one kind of call, and what Tollgate's ledger says of its side."""

    def worked():
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as one:
            one.request("GET", "/compute")
            return json.loads(one.getresponse().read())

    judge = Judge()
    with tempfile.TemporaryDirectory(prefix="tollgate-embedding-") as folder:
        with tollgate(options, folder, port) as running:
            without = Side(f"127.0.0.1:{port}", options)
            through = Side(running.told["listeners"], options)
            size = -(-len(questions) // SLICES)
            for start in range(0, len(questions), size):
                part = questions[start : start + size]
                without.slice(part, worked, judge.direct)
                through.slice(part, worked, judge.through)
                print(f"  {start + len(part)} of {len(questions)}", file=sys.stderr, flush=True)
        return without, through, report(options, folder, through)


def report(options, folder, through):
    """What the ledger says of calls that hit and of the others; its counts must be ours."""
    command = [options.binary, "report", "--data-dir", f"{folder}/ledger"]
    command += ["--by", "cache", "--format", "json"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = json.loads(told)["rows"]
    tokens = {True: 0, False: 0}
    for row in rows:
        tokens[row["cache"] != "miss"] += sum(row["tokens"].values())
    calls, hits = (sum(row[name] for row in rows) for name in ("calls", "hits"))
    ours = (len(through.calls), through.count("hit", "joined"), through.work["tokens"])
    if (calls, hits, tokens[False]) != ours:
        raise Wrong(f"the ledger says {told}, counted were calls, hits, tokens: {ours}")
    return f"{calls} calls, {hits} hits, {tokens[False]} tokens used, {tokens[True]} more answered without"


def line(name, cells):
    return f"{name:34}" + "".join(f"{cell:>14}" for cell in cells)


def table(name, questions, without, through):
    flat = [text for asked in questions for text in ([asked] if isinstance(asked, str) else asked)]
    joined, ratio = through.count("joined"), through.count("hit", "joined") / len(questions)
    known = 1 - len(set(flat)) / len(flat)

    def times(side, *hows):
        return [("-" if one is None else f"{one:.2f}") for one in side.latency(*hows)]

    def work(side):
        return [f"{side.work['cpu_s']:.1f}", f"{side.work['inputs']}", f"{side.work['tokens']}"]

    direct, gated = without.work["cpu_s"], through.work["cpu_s"]
    yield f"\n{name}: {len(questions)} calls, {len(flat)} texts, {known:.1%} of them asked before"
    yield line("", ["without", "Tollgate"])
    yield line("p50, ms", [times(without)[0], times(through)[0]])
    yield line("p99, ms", [times(without)[1], times(through)[1]])
    hit, miss = times(through, "hit"), times(through, "miss")
    yield line("  of hits: p50, p99, ms", ["", f"{hit[0]}, {hit[1]}"])
    yield line("  of misses: p50, p99, ms", ["", f"{miss[0]}, {miss[1]}"])
    yield line("calls a second", [f"{len(side.calls) / side.wall_s:.0f}" for side in (without, through)])
    for row, one, other in zip(
        ("the model's CPU, s", "texts it embedded", "tokens it read"), work(without), work(through)
    ):
        yield line(row, [one, other])
    yield (f"hit ratio {ratio:.1%}, of it {joined} calls that joined one under way; "
           f"{1 - gated / direct:.0%} of the model's CPU saved")


def main():
    options = read_options()
    corpus = texts(options.seed)
    print(f"{NAME}, {len(corpus)} fortunes, Zipf {options.exponent}, {options.callers} callers, one worker; "
          f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    # One worker is one CPU; what others computed for it would be in nobody's count.
    os.environ.update(OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    with Running([sys.executable, str(HERE / "server.py")], "stdout", '"port"') as server:
        for name, questions in kinds(options, corpus).items():
            if questions:
                without, through, ledger = measure(options, server.told["port"], questions)
                print("\n".join(table(name, questions, without, through)), flush=True)
                print(f"tollgate report: {ledger}", flush=True)
    print(f"\nload average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"bench/embedding/run: {wrong}")
    except KeyboardInterrupt:
        sys.exit(130)
