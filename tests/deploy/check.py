"""Checks what is deployed, without a cluster and without a container engine.

usage: python check.py TOLLGATE_BINARY [NODE_MODULES]

`manifests` holds the rendered manifests to the schemas of several Kubernetes versions, to each
other, and to Tollgate: their configurations start, answer the probes and serve the metrics they
name. `plans` holds them to the numbers of the plans behind the overlays. `queries` holds alerts,
dashboards and autoscalers to what a scrape of Tollgate has, `prometheus` to what a real one
answers; what the alerts fire at is for promtool (alerts.sh). `rollout` restarts a fleet. `injector` is for what puts
Tollgate into pods. Here, the image's root file system is
made by the script the Dockerfile uses, and entered by chroot as the user the image has (as root
only).
"""

import os
import pathlib
import re
import subprocess
import tempfile

import injector  # noqa: F401, for its checks
import manifests  # noqa: F401, for its checks
import plans  # noqa: F401, for its checks
import prometheus  # noqa: F401, for its check
import queries  # noqa: F401, for its checks
import rollout  # noqa: F401, for its check
from stage import BINARY, DEPLOY, Running, Skip, check, configurations, main

USER = 65532


@check
def the_dockerfile_copies_what_the_script_makes_and_is_not_root():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    final = lines[lines.index("FROM scratch") :]
    assert "COPY --from=build /rootfs /" in final
    assert f"USER {USER}:{USER}" in final
    assert 'ENTRYPOINT ["/tollgate"]' in final
    assert any("deploy/rootfs.sh target/release/tollgate /rootfs" in line for line in lines)
    # COPY . . needs all that the build reads.
    ignored = (DEPLOY.parent / ".dockerignore").read_text().split()
    assert not {"proxy", "config", "deploy", "Cargo.lock", "tests", "bench"} & set(ignored)


@check
def the_image_runs_alone_and_without_privileges():
    if os.getuid() != 0:
        raise Skip("chroot needs root")
    with tempfile.TemporaryDirectory() as directory:
        # mkdtemp's directory is closed to others; the image's user is another.
        os.chmod(directory, 0o755)
        root = pathlib.Path(directory, "rootfs")
        subprocess.run([DEPLOY / "rootfs.sh", BINARY, root], check=True)
        (root / "etc/tollgate/tollgate.yaml").write_text(dict(configurations())["sidecar"])
        inside = ["chroot", f"--userspec={USER}:{USER}", "--groups=", root, "/tollgate"]

        version = subprocess.run([*inside, "--version"], capture_output=True, text=True)
        assert re.fullmatch(r"tollgate \d+\.\d+\.\d+\n", version.stdout), version

        file = "/etc/tollgate/tollgate.yaml"
        checked = subprocess.run([*inside, "check", "-c", file], capture_output=True, text=True)
        assert checked.returncode == 0, checked

        upstream = "https://127.0.0.1:1"  # https, so that the CA certificates are read
        command = [*inside, "run", "--upstream", upstream, "--data-dir", "/data/ledger"]
        with Running(command) as tollgate:
            status, body = tollgate.metrics("/readyz")
            assert status == 200, body
            status = pathlib.Path(f"/proc/{tollgate.process.pid}/status").read_text()
            assert re.search(rf"^Uid:\t{USER}\t{USER}\t", status, re.MULTILINE), status
        assert list((root / "data/ledger").iterdir()), "no ledger was written"
        written = subprocess.run(
            ["find", root, "-user", str(USER), "-not", "-path", f"{root}/data*"],
            capture_output=True,
            text=True,
        )
        assert not written.stdout, f"files outside of /data belong to the user: {written.stdout}"


main()
