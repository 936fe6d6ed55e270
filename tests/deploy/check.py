"""Checks what is deployed, without a cluster and without a container engine.

usage: python check.py TOLLGATE_BINARY

The manifests are checked against the schemas of several Kubernetes versions, strictly,
and against Tollgate itself: the configuration they carry starts, and answers the probes
and serves the metrics they name. The alerts ask for series that a scrape of Tollgate has,
and name a section of the runbook; what they fire at is for promtool (alerts.sh). The
image's root file system is made by the script the Dockerfile uses, and entered by chroot
as the user the image has (as root only).
"""

import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import traceback

import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parents[1] / "deploy"
BINARY = pathlib.Path(sys.argv[1]).resolve()
VERSIONS = ["1.29", "1.31", "1.34", "1.37"]
USER = 65532
PATIENCE_S = 60

checks = []


def check(function):
    checks.append(function)
    return function


def documents():
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            yield file.name, document


def of_kind(kind):
    found = [document for _, document in documents() if document["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def pod():
    return of_kind("Deployment")["spec"]["template"]["spec"]


def sidecar():
    return next(it for it in pod()["initContainers"] if it["name"] == "tollgate")


def configuration():
    return of_kind("ConfigMap")["data"]["tollgate.yaml"]


class Running:
    """`tollgate run` of `command`, on free ports, from the line that it serves."""

    def __init__(self, command, **more):
        options = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True, **more
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


def run_configuration(directory):
    file = pathlib.Path(directory, "tollgate.yaml")
    file.write_text(configuration())
    return Running([BINARY, "run", "-c", file, "--data-dir", f"{directory}/ledger"])


@check
def every_manifest_is_valid_in_every_version():
    n = 0
    for name, document in documents():
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
            n += 1
        assert document["metadata"]["labels"], name
    assert n >= 4 * len(VERSIONS)


@check
def the_schemas_would_notice_a_mistyped_member():
    autoscaler = of_kind("HorizontalPodAutoscaler")
    autoscaler["spec"]["metrics"][0]["pods"]["target"]["averageVal"] = "1"
    try:
        kubernetes_validate.validate(autoscaler, VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("averageVal was accepted")


@check
def every_container_keeps_to_the_restricted_standard():
    spec = pod()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    for container in spec["initContainers"] + spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]
        assert container["resources"]["requests"]["cpu"], container["name"]
        assert container["resources"]["requests"]["memory"], container["name"]


@check
def selectors_and_names_fit_together():
    deployment, service = of_kind("Deployment"), of_kind("Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= labels.items(), selector
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    for mount in sidecar()["volumeMounts"]:
        assert mount["name"] in volumes, mount
    mounted = volumes["configuration"]["configMap"]["name"]
    assert mounted == of_kind("ConfigMap")["metadata"]["name"]
    ports = {port["name"]: port["containerPort"] for port in sidecar()["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    config = yaml.safe_load(configuration())
    assert config["listeners"][0]["address"].endswith(f":{ports['http']}")
    assert config["telemetry"]["metrics"]["address"].endswith(f":{ports['metrics']}")


@check
def the_grace_period_covers_the_drain():
    deadline = yaml.safe_load(configuration())["drain"]["deadline"]
    assert pod()["terminationGracePeriodSeconds"] > int(deadline.removesuffix("s")), deadline


@check
def the_configuration_passes_the_check():
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "tollgate.yaml")
        file.write_text(configuration())
        ended = subprocess.run([BINARY, "check", "-c", file], capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    # The one warning that belongs there: it is said of every cache of sampled answers.
    warnings = [line for line in said.splitlines() if "warning" in line]
    assert all("sampled answers are reused" in line for line in warnings), said


@check
def the_probes_and_hooks_are_answered():
    paths = {"/wait-for-drain"}
    container = sidecar()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        paths.add(container[probe]["httpGet"]["path"])
    for each in [container, *pod()["containers"]]:
        assert each["lifecycle"]["preStop"]["httpGet"]["path"] == "/wait-for-drain"
    with tempfile.TemporaryDirectory() as directory, run_configuration(directory) as tollgate:
        # The drain goes last: it flips readiness.
        for path in sorted(paths):
            status, body = tollgate.metrics(path)
            assert status == 200, f"{path}: {status} {body}"


@check
def the_metrics_to_scale_on_are_there_and_zero_when_idle():
    names = [
        metric["pods"]["metric"]["name"]
        for metric in of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    ]
    assert names == ["request_concurrency", "request_queue_length"]
    with tempfile.TemporaryDirectory() as directory, run_configuration(directory) as tollgate:
        _, text = tollgate.metrics("/metrics")
    for name in names:
        assert re.search(rf"^{name} 0$", text, re.MULTILINE), f"{name} is not 0 or not there"


def rules():
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def series_of(text):
    """Name and labels of every series of a scrape."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels = re.fullmatch(r"(\w+)(?:{(.*)})? \S+", line).groups()
            found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))))
    return found


# What PromQL itself says; the rest of the words of an expression are series and labels.
PROMQL = {"sum", "rate", "increase", "histogram_quantile", "by", "and"}
# Labels that the one who scrapes adds.
ADDED = {"namespace", "job", "instance"}


def asked_of(expression):
    """The series an expression selects, as (name, matchers), and the labels it groups by."""
    groups = re.findall(r"by \(([^)]*)\)", expression)
    rest = re.sub(r"by \([^)]*\)|\[[^\]]*\]", " ", expression)
    selected = []
    for name, braces in re.findall(r"([a-z_][\w:]*)({[^}]*})?", rest):
        if name not in PROMQL:
            selected.append((name, re.findall(r'(\w+)(=~?)"([^"]*)"', braces)))
        rest = rest.replace(name + braces, " ", 1)
    assert not re.search("[a-z{]", rest), f"not understood: {rest}"
    return selected, {label.strip() for group in groups for label in group.split(",")}


@check
def every_series_and_label_the_alerts_ask_for_is_in_a_scrape_of_an_idle_tollgate():
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "tollgate.yaml")
        route = "{ name: r, match: { path_prefix: / }, upstream: m, cache: { tiers: [memory, redis] } }"
        file.write_text(
            "stores: { redis: { urls: ['redis://127.0.0.1:1'] } }\n"
            "upstreams: { m: { endpoints: [{ url: 'http://127.0.0.1:1' }] } }\n"
            f"routes: [{route}]\ncache: {{ namespace: here }}\n"
        )
        with Running([BINARY, "run", "-c", file, "--data-dir", f"{directory}/ledger"]) as tollgate:
            _, text = tollgate.metrics("/metrics")
    there = series_of(text)
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked_for = 0
    for rule in rules():
        selected, groups = asked_of(rule["expr"])
        for name, matchers in selected:
            asked_for += 1
            if name in recorded:
                continue
            labels = [labels for other, labels in there if other == name]
            assert labels, f"{name} is not in /metrics"
            assert all(groups - ADDED <= one.keys() for one in labels), f"{name} has not all of {groups}"
            for label, operator, value in matchers:
                wanted = value.split("|") if operator == "=~" else [value]
                has = {one.get(label) for one in labels}
                assert has >= set(wanted), f"{name}: {label} is never {set(wanted) - has}"
    assert asked_for >= 8, asked_for


@check
def every_alert_names_a_section_of_the_runbook_and_every_section_an_alert():
    lines = (DEPLOY / "runbook.md").read_text().splitlines()
    sections = {line[3:].lower().replace(" ", "-") for line in lines if line.startswith("## ")}
    alerts = [rule for rule in rules() if "alert" in rule]
    named = {alert["annotations"]["runbook_url"] for alert in alerts}
    assert named == {f"deploy/runbook.md#{section}" for section in sections}
    for alert in alerts:
        assert any(line.startswith(f"`{alert['alert']}`") for line in lines), alert["alert"]


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
    with tempfile.TemporaryDirectory() as directory:
        # mkdtemp's directory is closed to others; the image's user is another.
        os.chmod(directory, 0o755)
        root = pathlib.Path(directory, "rootfs")
        subprocess.run([DEPLOY / "rootfs.sh", BINARY, root], check=True)
        (root / "etc/tollgate/tollgate.yaml").write_text(configuration())
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


def main():
    passed = failed = skipped = 0
    for function in checks:
        name = function.__name__.replace("_", " ")
        if function is the_image_runs_alone_and_without_privileges and os.getuid() != 0:
            skipped += 1
            print(f"skipped {name}: chroot needs root")
            continue
        try:
            function()
        except Exception:  # noqa: BLE001: one failure must not hide the others
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
        else:
            passed += 1
            print(f"ok      {name}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


main()
