"""What the checks share: where things are, a running Tollgate, and who runs the checks."""

import functools
import http.client
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import traceback

import yaml

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
DEPLOY = TOP / "deploy"
RENDERED = DEPLOY / "kubernetes/rendered"
BINARY = pathlib.Path(sys.argv[1]).resolve()
PATIENCE_S = 60

checks = []


def check(function):
    checks.append(function)
    return function


class Skip(Exception):
    """A check that cannot be made here, and why."""


# Whichever ports are free.
FREE = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--metrics=127.0.0.1:0"]


class Running:
    """`tollgate run` of `command`, on free ports unless told, from the line that it serves."""

    def __init__(self, command, addresses=FREE, **more):
        self.process = subprocess.Popen(
            [*command, *addresses], stderr=subprocess.PIPE, text=True, **more
        )
        said = []
        for line in self.process.stderr:
            if '"listeners"' in line:
                self.addresses = json.loads(line)
                break
            said.append(line)
        else:
            self.process.wait(PATIENCE_S)
            raise AssertionError(f"it ended before it served: {''.join(said)}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The second signal goes at once: nothing is in flight.
        self.process.terminate()
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def metrics(self, path):
        """Status and body of the answer on the telemetry address."""
        connection = http.client.HTTPConnection(self.addresses["metrics"], timeout=PATIENCE_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what, holds):
    """Waits for `holds`, which may get no answer as long as what it asks starts; else tells what was last."""
    end, last = time.monotonic() + PATIENCE_S, None
    tick = threading.Event()
    while time.monotonic() < end:
        try:
            last = holds()
            if last:
                return last
        except (OSError, http.client.HTTPException, ValueError) as error:
            last = error
        tick.wait(0.1)
    raise AssertionError(f"{what}: {last}")


def run_configuration(text, directory):
    """Tollgate with `text` for its configuration; what it names as a secret of its pod is made up."""
    secrets = pathlib.Path(directory, "secrets")
    secrets.mkdir()
    for path in re.findall(r"/run/secrets/tollgate/([\w-]+)", text):
        # 32 bytes as hex, which a key of the cache is; a password may be anything.
        (secrets / path).write_text("5a" * 32)
    file = pathlib.Path(directory, "tollgate.yaml")
    file.write_text(text.replace("/run/secrets/tollgate", str(secrets)))
    return Running([BINARY, "run", "-c", file, "--data-dir", f"{directory}/ledger"])


# The C loader where there is one: the manifests are ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def manifests():
    """Every object of every rendered file: `{file's stem: [object]}`."""
    files = sorted(RENDERED.glob("*.yaml"))
    return {file.stem: list(yaml.load_all(file.read_text(), Loader=LOADER)) for file in files}


def objects(*kinds):
    """The objects of `kinds` (of all without), each with its file's stem."""
    return [
        (stem, it)
        for stem, of in manifests().items()
        for it in of
        if not kinds or it["kind"] in kinds
    ]


def named(stem, kind, name):
    found = [
        it for it in manifests()[stem] if it["kind"] == kind and it["metadata"]["name"] == name
    ]
    assert len(found) == 1, f"{stem}: {len(found)} {kind} {name}"
    return found[0]


def pods():
    """(file, owner, pod template) of everything that makes pods."""
    for stem, it in objects("Deployment", "StatefulSet"):
        yield stem, it, it["spec"]["template"]


def tollgate_of(pod):
    """The container that is Tollgate, sidecar or not; None without one."""
    for container in pod.get("initContainers", []) + pod["containers"]:
        if container["name"] == "tollgate":
            return container
    return None


def configurations():
    """(file, text) of every configuration of Tollgate."""
    return [
        (stem, it["data"]["tollgate.yaml"])
        for stem, it in objects("ConfigMap")
        if "tollgate.yaml" in it["data"]
    ]


def number(quantity):
    """A quantity of Kubernetes as a number."""
    value, unit = re.fullmatch(r"([\d.]+)(\D*)", str(quantity)).groups()
    scale = {"": 1, "m": 1e-3, "k": 1e3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(value) * scale[unit]


def main():
    passed = failed = skipped = 0
    for function in checks:
        name = function.__name__.replace("_", " ")
        start = time.monotonic()
        try:
            said = function()
        except Skip as why:
            skipped += 1
            print(f"skipped {name}: {why}")
        except Exception:  # one failure must not hide the others
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
        else:
            passed += 1
            took = time.monotonic() - start
            print(f"ok      {name}{f': {said}' if said else ''} ({took:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)
