"""What a measurement needs of Linux: pinned processes that die with us, and /proc."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

TICK_HZ = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Wrong(Exception):
    """Something that makes the numbers worthless, in words for the one who runs this."""


def cores():
    """The core of the proxy under test, and the core of everything else."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1 if len(allowed) > 1 else 0]


def free_ports(count):
    """Ports the system chose; all are held until the last is known, so no two are equal."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Processes:
    """Starts processes on a core and ends all of them, however this program ends."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.running = []

    def start(self, name, core, command):
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                cwd=self.folder, preexec_fn=lambda: become(core))
        self.running.append((name, log, process))
        return process.pid

    def check(self):
        for name, log, process in self.running:
            if process.poll() is not None:
                told = log.read_text(errors="replace")[-2000:]
                raise Wrong(f"{name} ended with {process.returncode}:\n{told}")

    def end(self):
        for _, _, process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for _, _, process in self.running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


def become(core):
    """In the child: its core, its own group (Ctrl-C is ours to pass on), and our fate."""
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.sched_setaffinity(0, {core})


def run_pinned(core, command, patience_s):
    """A program to its end; its output."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=patience_s, preexec_fn=lambda: become(core))
    if done.returncode != 0:
        raise Wrong(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(url, processes, patience_s=15):
    """Until `url` answers 200."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        processes.check()
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.02)
    raise Wrong(f"{url} does not answer")


def until(is_so, otherwise, patience_s=15):
    """Until `is_so()`; else it is wrong, in the words of `otherwise`."""
    end = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > end:
            raise Wrong(otherwise)
        time.sleep(0.02)


def family(pid):
    """A process and its children: nginx is a master, a worker and the cache's keepers."""
    listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in listed)]


def cpu_seconds(pid):
    """User and system time of all threads of a process and of its children, so far."""
    total = 0
    for member in family(pid):
        stat = pathlib.Path(f"/proc/{member}/stat").read_text()
        # The name, in brackets, may hold anything; the fields after it are fixed.
        fields = stat.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK_HZ


def core_busy_seconds(core):
    """Time a core was not idle, whoever used it."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            fields = [int(field) for field in line.split()[1:]]
            return (sum(fields[:8]) - fields[3] - fields[4]) / TICK_HZ
    raise Wrong(f"/proc/stat has no cpu{core}")


def memory(pid):
    """Resident and proportional bytes of a process and its children."""
    sizes = {"Rss": 0, "Pss": 0}
    for member in family(pid):
        for line in pathlib.Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sizes:
                sizes[name] += int(rest.split()[0]) * 1024
    return sizes["Rss"], sizes["Pss"]
