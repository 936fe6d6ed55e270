"""The rendered manifests: valid, of one piece, and what Tollgate takes."""

import collections
import concurrent.futures
import copy
import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils as kube
import yaml
from referencing import Registry, Resource
from stage import (
    BINARY,
    DEPLOY,
    HERE,
    RENDERED,
    Skip,
    check,
    configurations,
    manifests,
    named,
    number,
    objects,
    pods,
    run_configuration,
    tollgate_of,
)

VERSIONS = ["1.29", "1.31", "1.34", "1.37"]
# Whose schemas Kubernetes does not have; crds.mjs does.
FOREIGN = {"keda.sh/v1alpha1", "autoscaling.k8s.io/v1", "monitoring.coreos.com/v1"}
# Members of later versions: where they stand, and from when on.
LATER = {"marketing-hysteresis": "1.34"}
# The oldest kubectl whose kustomize makes them.
KUBECTL = 27


# ---- rendered, and valid -----------------------------------------------------------------


@check
def the_rendered_files_are_what_the_overlays_make():
    asked = shutil.which("kubectl")
    version = asked and subprocess.run(
        [asked, "version", "--client", "-o", "json"], capture_output=True, text=True
    )
    minor = version and re.search(r'"minor": "(\d+)', version.stdout)
    if not minor or int(minor[1]) < KUBECTL:
        raise Skip(f"compared nothing: no kubectl 1.{KUBECTL} or newer ({asked or 'none'} here)")
    with tempfile.TemporaryDirectory() as directory:
        # In a copy: it writes beside the overlays, too.
        copied = shutil.copytree(DEPLOY, pathlib.Path(directory, "deploy")) / "kubernetes"
        subprocess.run([copied / "render", f"{directory}/out"], check=True)
        made = {file.name: file.read_text() for file in pathlib.Path(directory, "out").iterdir()}
        for name in ["cluster/rules.yaml", "overlays/personalization/rules.yaml"]:
            assert (copied / name).read_text() == (DEPLOY / "kubernetes" / name).read_text(), (
                f"{name}: run deploy/kubernetes/render"
            )
    there = {file.name: file.read_text() for file in RENDERED.iterdir()}
    assert made.keys() == there.keys(), made.keys() ^ there.keys()
    differ = [name for name in made if made[name] != there[name]]
    assert not differ, f"{differ}: run deploy/kubernetes/render"
    return f"{len(made)} files, kubectl 1.{minor[1]}"


@functools.cache
def validator(kind, api_version, version):
    """As kubernetes_validate.validate makes one, but once for each kind and version: that reads megabytes."""
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = kube.schema_contents(f"{folder}/{kind.lower()}-{name}.json", version)
    registry = Resource.from_contents(schema) @ Registry()
    return jsonschema.Draft202012Validator(schema, registry=definitions(folder, version) @ registry)


@functools.cache
def definitions(folder, version):
    return Resource.from_contents(kube.schema_contents(f"{folder}/_definitions.json", version))


@check
def every_manifest_is_valid_in_every_version():
    n = 0
    for stem, it in objects():
        assert it["metadata"]["labels"], f"{stem}: {it['kind']}"
        if it["apiVersion"] in FOREIGN:
            continue
        for version in VERSIONS:
            problems = list(validator(it["kind"], it["apiVersion"], version).iter_errors(it))
            later = LATER.get(stem)
            if it["kind"] == "HorizontalPodAutoscaler" and later and version < later:
                assert any("tolerance" in one.message for one in problems), stem
                continue
            assert not problems, f"{stem}: {it['kind']} in {version}: {problems[0].message}"
            n += 1
    assert n > 100 * len(VERSIONS), n
    return f"{n} cases, Kubernetes {', '.join(VERSIONS)}"


@check
def the_schemas_would_notice_a_mistyped_member():
    autoscaler = copy.deepcopy(named("sidecar", "HorizontalPodAutoscaler", "model"))
    kubernetes_validate.validate(autoscaler, VERSIONS[-1], strict=True)
    autoscaler["spec"]["metrics"][0]["pods"]["target"]["averageVal"] = "1"
    for version in VERSIONS:
        assert list(
            validator(autoscaler["kind"], "autoscaling/v2", version).iter_errors(autoscaler)
        )


@check
def every_object_of_keda_the_vpa_and_the_prometheus_operator_is_valid():
    if len(sys.argv) < 3:
        raise Skip("no node_modules: the schemas of KEDA, the VPA and the Prometheus operator")
    of = [it for _, it in objects() if it["apiVersion"] in FOREIGN]
    kinds = {it["kind"]: it for it in of}
    # They would notice: of each kind one with a member that is mistyped, and one with a wrong value.
    wrong = []
    for it in kinds.values():
        wrong.append({**it, "spec": {**it["spec"], "mistyped": 1}})
        wrong.append({**it, "spec": {**it["spec"], next(iter(it["spec"])): 1.5}})
    # Beside its modules: that is where Node looks.
    program = shutil.copy(HERE / "crds.mjs", pathlib.Path(sys.argv[2]).parent)
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "objects.json")
        file.write_text(json.dumps(of + wrong))
        said = subprocess.run(["node", program, file], capture_output=True, text=True)
    assert not said.stderr, said.stderr
    problems = {}
    for line in said.stdout.splitlines():
        problems[int(line.split(":")[0])] = line
    assert not [line for at, line in problems.items() if at < len(of)], problems
    assert problems.keys() == set(range(len(of), len(of) + len(wrong))), problems
    return f"{len(of)} objects of {', '.join(kinds)}"


# ---- of one piece ------------------------------------------------------------------------


def fits(selector, labels):
    return selector.items() <= labels.items()


def templates(stem, namespace=None):
    return [
        it["spec"]["template"]
        for it in manifests()[stem]
        if it["kind"] in ("Deployment", "StatefulSet")
    ]


@check
def selectors_and_names_fit_together():
    for stem, it in objects("Deployment", "StatefulSet"):
        labels = it["spec"]["template"]["metadata"]["labels"]
        assert fits(it["spec"]["selector"]["matchLabels"], labels), stem
        own = [
            other
            for other in templates(stem)
            if fits(it["spec"]["selector"]["matchLabels"], other["metadata"]["labels"])
        ]
        assert len(own) == 1, f"{stem}: {it['metadata']['name']} selects pods of another"
    n = 0
    for stem, it in objects("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        spec = it["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        selector = selector.get("matchLabels", {} if it["kind"] != "Service" else selector)
        selected = [one for one in templates(stem) if fits(selector, one["metadata"]["labels"])]
        assert selected, f"{stem}: {it['kind']} {it['metadata']['name']} selects nothing"
        n += 1
        ports = [(port.get("targetPort"), selected) for port in spec.get("ports", [])]
        ports += [
            (port["port"], selected) for rule in spec.get("ingress", []) for port in rule["ports"]
        ]
        for port, of in ports:
            for one in of:
                # Of a native sidecar a name is not found by servers before 1.32, nor by some network plug-ins.
                main = one["spec"]["containers"]
                every = main + one["spec"].get("initContainers", [])
                names = {p["name"] for c in main for p in c.get("ports", [])}
                numbers = {p["containerPort"] for c in every for p in c.get("ports", [])}
                assert port in (names | numbers), (
                    f"{stem}: {it['kind']} {it['metadata']['name']}: no port {port}"
                )
    return f"{n} selectors"


@check
def what_pods_mount_and_name_is_there():
    classes = {
        it["metadata"]["name"] for it in manifests()["cluster"] if it["kind"] == "PriorityClass"
    }
    for stem, owner, template in pods():
        pod = template["spec"]
        assert pod.get("priorityClassName") in classes | {None}, stem
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        claims = {it["metadata"]["name"] for it in owner["spec"].get("volumeClaimTemplates", [])}
        mounted = {
            mount["name"]
            for container in pod["containers"] + pod.get("initContainers", [])
            for mount in container.get("volumeMounts", [])
        }
        assert mounted == volumes.keys() | claims, f"{stem}: {owner['metadata']['name']}"
        for volume in volumes.values():
            if "configMap" in volume:
                named(stem, "ConfigMap", volume["configMap"]["name"])
    # Each is a stem's own: none is named that the overlay does not bring.
    for stem, it in objects("StatefulSet"):
        assert (
            it["spec"]["serviceName"]
            == named(stem, "Service", it["metadata"]["name"])["metadata"]["name"]
        )


@check
def one_autoscaler_of_a_kind_for_a_deployment_that_is_there():
    for kinds in (["HorizontalPodAutoscaler", "ScaledObject"], ["VerticalPodAutoscaler"]):
        targets = collections.Counter()
        for stem, it in objects(*kinds):
            target = it["spec"].get("scaleTargetRef") or it["spec"]["targetRef"]
            named(stem, target["kind"], target["name"])
            targets[stem, target["kind"], target["name"]] += 1
        twice = [target for target, n in targets.items() if n > 1]
        assert not twice, twice
    # Who scales sets the number; a manifest that did, too, would undo it with each apply.
    for stem, it in objects("HorizontalPodAutoscaler", "ScaledObject"):
        target = it["spec"]["scaleTargetRef"]
        scaled = named(stem, target["kind"], target["name"])
        assert "replicas" not in scaled["spec"], stem


@check
def every_container_keeps_to_the_restricted_standard():
    for stem, _, template in pods():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, stem
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", stem
        assert spec["automountServiceAccountToken"] is False, stem
        for container in spec.get("initContainers", []) + spec["containers"]:
            context, name = container["securityContext"], f"{stem}: {container['name']}"
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name
            # Without requests an autoscaler that looks at CPU fails for the whole pod.
            assert container["resources"]["requests"]["cpu"], name
            assert container["resources"]["requests"]["memory"], name
            assert container["resources"]["limits"]["memory"], name
    for stem, it in objects("Namespace"):
        assert it["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted", stem


@check
def a_sidecar_is_a_native_one_that_starts_first_and_ends_last():
    n = 0
    for stem, _, template in pods():
        pod = template["spec"]
        tollgate = tollgate_of(pod)
        if not tollgate:
            continue
        n += 1
        assert template["metadata"]["labels"]["tollgate.dev/proxy"] == "true", stem
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert tollgate[probe]["httpGet"]["port"] == "metrics", stem
        behind = pod["containers"] if tollgate in pod.get("initContainers", []) else []
        if behind:
            assert pod["initContainers"][0] is tollgate and tollgate["restartPolicy"] == "Always", (
                stem
            )
        ports = {port["name"]: port["containerPort"] for port in tollgate["ports"]}
        for each in [tollgate, *behind]:
            hook = each["lifecycle"]["preStop"]["httpGet"]
            assert hook["path"] == "/wait-for-drain", stem
            assert hook["port"] in ("metrics", ports["metrics"]), stem
    assert n >= 9, n
    return f"{n} pods"


@check
def a_pods_grace_covers_the_drain():
    for stem, text in configurations():
        deadline = int(yaml.safe_load(text)["drain"]["deadline"].removesuffix("s"))
        for _, _, template in (
            one for one in pods() if one[0] == stem and tollgate_of(one[2]["spec"])
        ):
            grace = template["spec"]["terminationGracePeriodSeconds"]
            # Once in the preStop hook; by itself once more from SIGTERM. A sidecar's streams have
            # ended with the server by then.
            sidecar = tollgate_of(template["spec"]) in template["spec"].get("initContainers", [])
            needed = deadline * (1 if sidecar else 2) + 10
            assert grace >= needed, f"{stem}: {grace} s for a drain of {deadline} s"


@check
def nobody_reaches_the_admin_api_from_outside_of_the_pod():
    for stem, text in configurations():
        address = yaml.safe_load(text).get("admin", {}).get("address", "127.0.0.1:9900")
        assert address.startswith("127.0.0.1:"), stem
    for stem, it in objects("NetworkPolicy"):
        for rule in it["spec"].get("ingress", []):
            assert rule["ports"] and rule["from"], f"{stem}: a rule for every port, or everybody"
            assert all(port["port"] not in (9900, "admin") for port in rule["ports"]), stem
    # Every pod has a policy of its own, but those that nobody calls.
    for stem, owner, template in pods():
        labels = template["metadata"]["labels"]
        policies = [
            it
            for other, it in objects("NetworkPolicy")
            if other == stem and fits(it["spec"]["podSelector"].get("matchLabels", {}), labels)
        ]
        assert policies or owner["metadata"]["name"] == "batch", (
            f"{stem}: {owner['metadata']['name']}"
        )


# ---- and of Tollgate ---------------------------------------------------------------------

# What `tollgate check` may say of a configuration that is as it should be.
EXPECTED = re.compile(
    r"(cannot read /run/secrets/tollgate/"  # the pod's secrets are not here
    r"|sampled answers are reused"  # said of every cache of model calls
    r"|cache\.key\.of: leaves out)"  # the keys are the plans'
)


@check
def every_configuration_passes_the_check():
    for stem, text in configurations():
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "tollgate.yaml")
            file.write_text(text)
            ended = subprocess.run([BINARY, "check", "-c", file], capture_output=True, text=True)
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, f"{stem}: {said}"
        odd = [
            line for line in said.splitlines() if "warning" in line and not EXPECTED.search(line)
        ]
        assert not odd, f"{stem}: {odd}"
    return f"{len(configurations())} configurations"


@check
def every_configuration_starts_answers_its_probes_and_has_its_autoscalers_metrics_at_zero():
    # Of overlays that share one, one.
    of = {text: stem for stem, text in reversed(configurations())}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(serves, of.values(), of.keys()))
    return f"{len(of)} started"


def serves(stem, text):
    listener, metrics = (yaml.safe_load(text)[key] for key in ("listeners", "telemetry"))
    template = next(one for it, _, one in pods() if it == stem and tollgate_of(one["spec"]))
    container = tollgate_of(template["spec"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert listener[0]["address"].endswith(f":{ports['http']}"), stem
    assert metrics["metrics"]["address"].endswith(f":{ports['metrics']}"), stem
    wanted = {
        metric["pods"]["metric"]["name"]
        for other, it in objects("HorizontalPodAutoscaler")
        if other == stem
        for metric in it["spec"]["metrics"]
        if metric["type"] == "Pods"
    } - {"gpu_utilization_percent"}
    paths = sorted(
        {
            container[probe]["httpGet"]["path"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
    )
    if stem == "sidecar":
        # Once, as it waits for drain.quiet; and last, as it flips readiness.
        paths.append("/wait-for-drain")
    with tempfile.TemporaryDirectory() as directory, run_configuration(text, directory) as tollgate:
        _, scrape = tollgate.metrics("/metrics")
        for name in wanted:
            assert re.search(rf"^{name} 0$", scrape, re.MULTILINE), (
                f"{stem}: {name} is not 0 or not there"
            )
        for path in paths:
            status, body = tollgate.metrics(path)
            assert status == 200, f"{stem}: {path}: {status} {body}"


@check
def the_redis_of_the_manifests_starts_and_lets_tollgate_do_what_it_needs_and_no_more():
    if not shutil.which("redis-server"):
        raise Skip("no redis-server")
    text = named(
        "marketing",
        "ConfigMap",
        next(
            it["metadata"]["name"]
            for it in manifests()["marketing"]
            if it["kind"] == "ConfigMap" and "redis.conf" in it["data"]
        ),
    )["data"]["redis.conf"]
    limit = next(
        it
        for it in manifests()["marketing"]
        if it["kind"] == "StatefulSet" and it["metadata"]["name"] == "redis"
    )["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    most = int(re.search(r"^maxmemory (\d+)gb$", text, re.MULTILINE)[1])
    assert most * 2**30 <= 0.75 * number(limit), f"maxmemory {most}gb of {limit}"
    # The users are those of the page that tells how to make the secret; the rights those of the example.
    page = (DEPLOY / "README.md").read_text()
    user = (
        re.search(r"user tollgate on >\$password (.*?)\"", page, re.DOTALL)[1]
        .replace("\\\n", " ")
        .split()
    )
    example = (DEPLOY.parent / "config/examples/full.yaml").read_text()
    least = (
        re.search(r"Least that the user needs: (.*?);", example, re.DOTALL)[1]
        .replace("#", " ")
        .split()
    )
    assert user == least, set(user) ^ set(least)
    with tempfile.TemporaryDirectory() as directory:
        users = pathlib.Path(directory, "users.acl")
        users.write_text(f"user default off\nuser tollgate on >word {' '.join(user)}\n")
        file = pathlib.Path(directory, "redis.conf")
        file.write_text(text.replace("/run/secrets/redis/users.acl", str(users)))
        socket = f"{directory}/socket"
        server = subprocess.Popen(
            ["redis-server", file, "--port", "0", "--unixsocket", socket, "--dir", directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said = []
            # To the line that it serves, or to its end.
            for line in server.stdout:
                said.append(line)
                if "ready to accept connections" in line.lower():
                    break
            else:
                raise AssertionError("".join(said))
            ask = ["redis-cli", "-s", socket, "--no-auth-warning"]
            login = ["--user", "tollgate", "--pass", "word"]
            for words, answer in [
                ([*login, "SET", "tollgate:a", "1"], "OK"),
                ([*login, "SET", "other", "1"], "NOPERM"),
                ([*login, "CONFIG", "GET", "*"], "NOPERM"),
                (["PING"], "NOAUTH"),
            ]:
                got = subprocess.run([*ask, *words], capture_output=True, text=True)
                assert answer in got.stdout + got.stderr, f"{words}: {got}"
        finally:
            server.terminate()
            server.wait()


@check
def a_container_has_room_for_what_tollgate_may_hold():
    own = 64 * 2**20  # the program, its ledger, connections
    for stem, text in configurations():
        config = yaml.safe_load(text)
        held = config["listeners"][0].get("limits", {}).get("held", "256MiB")
        size = config["cache"].get("memory", {}).get("size")
        for _, _, template in (
            one for one in pods() if one[0] == stem and tollgate_of(one[2]["spec"])
        ):
            limit = number(tollgate_of(template["spec"])["resources"]["limits"]["memory"])
            cache = number(size.removesuffix("B")) if size else min(limit / 4, 256 * 2**20)
            needed = number(held.removesuffix("B")) + cache + own
            assert needed <= limit, f"{stem}: {needed / 2**20:.0f} MiB of {limit / 2**20:.0f}"


@check
def the_page_names_what_there_is():
    page = (DEPLOY / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", page)
    for link in links:
        assert (DEPLOY / link).exists(), link
    named_there = re.findall(
        r"`((?:overlays|components|cluster|prometheus|grafana)/[\w./*-]+)`", page
    )
    for path in named_there:
        assert list(DEPLOY.glob(path)) or list((DEPLOY / "kubernetes").glob(path)), path
    # And everything there is: each component is asked for by a plan, or told of.
    for folder in ("components", "overlays"):
        for one in (DEPLOY / "kubernetes" / folder).iterdir():
            assert one.name in page or one.name.removeprefix("customer-service") in page, one
    return f"{len(links)} links, {len(named_there)} paths"
