"""Runs checks twice each and counts: what both SDK scripts share."""

import asyncio
import inspect
import sys
import traceback
import uuid

# Part of every question, so that each run of a script starts with misses.
RUN = uuid.uuid4().hex[:12]

_checks = []


def check(function):
    """A check takes `first` (is this its first time?) and returns what must be
    equal both times."""
    _checks.append(function)
    return function


def question(text):
    return f"{text} ({RUN})"


def raises(kind, call):
    """The exception `call` ends with, which must be exactly of `kind`."""
    try:
        call()
    except Exception as error:  # noqa: BLE001: any other one is reported
        assert type(error) is kind, f"wanted {kind.__name__}, got {error!r}"
        return error
    raise AssertionError(f"wanted {kind.__name__}, got an answer")


class Attempts:
    """Counts the requests a client really sends."""

    def __init__(self):
        self.sent = 0

    def hooks(self):
        return {"request": [self._count]}

    def _count(self, _request):
        self.sent += 1


def _run(function, first):
    outcome = function(first)
    return asyncio.run(outcome) if inspect.iscoroutine(outcome) else outcome


def main():
    passed = failed = 0
    for function in _checks:
        name = function.__name__.replace("_", " ")
        try:
            one = _run(function, True)
            two = _run(function, False)
            assert one == two, f"the second time differs:\n  {one!r}\n  {two!r}"
        except Exception:  # noqa: BLE001: one failure must not hide the others
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
        else:
            passed += 1
            print(f"ok      {name}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def base_url():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} http://HOST:PORT")
    return sys.argv[1].rstrip("/")
