"""The injector: its manifests, what it makes of pods, and its binary as a process."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile

import yaml
from manifests import VERSIONS, validator
from stage import BINARY, DEPLOY, PATIENCE_S, Running, Skip, check, named

INJECTOR = BINARY.with_name("tollgate-injector")
STEM = "injector"
# Pods with members that no schema knows, on purpose.
UNKNOWN = {"fields-that-nobody-knows-yet-stay-as-they-are"}


def injected():
    """(name, pod) of every golden pod that Tollgate was put into."""
    found = []
    for file in sorted((DEPLOY / "injector/tests/golden").glob("*.out.json")):
        made = json.loads(file.read_text())
        if made["outcome"] == "injected":
            found.append((file.name.removesuffix(".out.json"), made["pod"]))
    assert len(found) >= 40, len(found)
    return found


def sidecar(pod):
    of = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
    return next(one for one in of if one["name"] == "tollgate")


@check
def every_injected_pod_is_valid_in_every_version():
    n = 0
    for name, pod in injected():
        if name in UNKNOWN:
            continue
        for version in VERSIONS:
            whole = {"apiVersion": "v1", "kind": "Pod", **pod}
            problems = list(validator("Pod", "v1", version).iter_errors(whole))
            assert not problems, f"{name} in {version}: {problems[0].message}"
            n += 1
    wrong = injected()[0][1]
    sidecar(wrong)["restartPolicyy"] = "Always"
    assert list(validator("Pod", "v1", VERSIONS[-1]).iter_errors(wrong))
    return f"{n} cases"


@check
def an_injected_sidecar_is_that_of_the_component_and_restricted():
    file = DEPLOY / "kubernetes/components/sidecar/deployment.yaml"
    component = yaml.safe_load(file.read_text())["spec"]["template"]["spec"]["initContainers"][0]
    for name, pod in injected():
        one = sidecar(pod)
        context = one["securityContext"]
        assert context.items() >= component["securityContext"].items(), name
        assert context["runAsNonRoot"] is True, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert one["resources"]["requests"].keys() == {"cpu", "memory"}, name
        metrics = next(port for port in one["ports"] if port.get("name") == "metrics")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = json.loads(json.dumps(component[probe]))
            asked["httpGet"]["port"] = metrics["containerPort"]
            assert one[probe] == asked, f"{name}: {probe}"
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        assert mounts.keys() <= {volume["name"] for volume in pod["spec"]["volumes"]}, name
        paths = {mount["mountPath"] for mount in component["volumeMounts"]}
        assert set(mounts.values()) <= paths, name
        assert pod["metadata"]["labels"]["tollgate.dev/proxy"] == "true", name


@check
def tollgate_takes_the_arguments_that_a_sidecar_is_given():
    by = {name: sidecar(pod) for name, pod in injected()}
    plain = by["a-pod-that-asks-by-its-label-is-injected"]
    inline = by["a-configuration-comes-from-the-annotation-itself"]
    for one in (plain, inline):
        with tempfile.TemporaryDirectory() as directory:
            words = []
            for word in one["args"]:
                option, _, value = word.partition("=")
                if option == "--data-dir":
                    value = f"{directory}/ledger"
                elif option in ("--listen", "--metrics", "--admin"):
                    value = "127.0.0.1:0"
                words.append(f"{option}={value}" if value else option)
            # As the kubelet reads them: a doubled dollar is one.
            env = {it["name"]: it["value"].replace("$$", "$") for it in one["env"]}
            with Running([BINARY, *words], [], env={**os.environ, **env}) as tollgate:
                assert tollgate.metrics("/readyz")[0] == 200


@check
def the_webhook_reaches_its_service_and_none_of_what_kubernetes_lives_on():
    (hook,) = named(STEM, "MutatingWebhookConfiguration", "tollgate-injector")["webhooks"]
    asked = hook["clientConfig"]["service"]
    service = named(STEM, "Service", asked["name"])
    namespace = service["metadata"]["namespace"]
    assert namespace == asked["namespace"]
    of = named(STEM, "Namespace", namespace)["metadata"]
    assert asked["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert asked["path"] == "/mutate"
    (expression,) = hook["namespaceSelector"]["matchExpressions"]
    assert expression["key"] == "kubernetes.io/metadata.name" and expression["operator"] == "NotIn"
    wanted = {"kube-system", "kube-public", "kube-node-lease", namespace}
    assert set(expression["values"]) == wanted
    # The same namespaces stand in the injector itself.
    source = (DEPLOY / "injector/src/config.rs").read_text()
    assert all(f'"{name}"' in source for name in wanted - {namespace})
    assert hook["namespaceSelector"]["matchLabels"] == {"tollgate.dev/injection": "enabled"}
    # Its own pods are never a case for itself.
    assert "tollgate.dev/injection" not in of["labels"]
    assert hook["admissionReviewVersions"] == ["v1"] and hook["sideEffects"] == "None"
    assert hook["timeoutSeconds"] <= 10
    (rule,) = hook["rules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])
    by = named(STEM, "MutatingWebhookConfiguration", "tollgate-injector")["metadata"]["annotations"]
    assert by["cert-manager.io/inject-ca-from"] == f"{namespace}/tollgate-injector"
    assert named(STEM, "Deployment", "tollgate-injector")["spec"]["replicas"] >= 2


@contextlib.contextmanager
def serving(directory):
    """The injector as its Deployment starts it, on a free port; its address."""
    template = named(STEM, "Deployment", "tollgate-injector")["spec"]["template"]["spec"]
    namespace = named(STEM, "Deployment", "tollgate-injector")["metadata"]["namespace"]
    given = [word.replace("$(NAMESPACE)", namespace) for word in template["containers"][0]["args"]]
    files = [f"--certificate={directory}/tls.crt", f"--private-key={directory}/tls.key"]
    command = [INJECTOR, *given, *files, "--address=127.0.0.1:0", "--kubernetes-version=1.31"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if '"address"' in line:
                break
        else:
            raise AssertionError("".join(said))
        yield json.loads(said[-1])["address"]
    finally:
        process.terminate()
        for line in process.stderr:
            if "leaving" in line:
                # Nobody else is sent here: the second signal goes at once.
                process.terminate()
                break
        assert process.wait(PATIENCE_S) == 0


@check
def the_injector_answers_the_api_server_with_a_certificate_of_its_own_making():
    if not INJECTOR.exists():
        raise Skip(f"no {INJECTOR}")
    with tempfile.TemporaryDirectory() as directory:
        made = [INJECTOR, "certificate", "--namespace=tollgate", f"--out={directory}"]
        subprocess.run(made, check=True)
        again = subprocess.run(made, capture_output=True, text=True)
        assert again.returncode == 2 and "empty directory" in again.stderr, again
        assert pathlib.Path(directory, "tls.key").stat().st_mode & 0o077 == 0
        with serving(directory) as address:
            context = ssl.create_default_context(cafile=f"{directory}/ca.crt")
            host, port = address.rsplit(":", 1)
            connection = http.client.HTTPSConnection(
                host, int(port), timeout=PATIENCE_S, context=context
            )
            # Asked for by the name that the API server asks for.
            name = "tollgate-injector.tollgate.svc"
            raw = socket.create_connection((host, int(port)), PATIENCE_S)
            connection.sock = context.wrap_socket(raw, server_hostname=name)
            case = DEPLOY / "injector/tests/golden/a-pod-that-asks-by-its-label-is-injected.in.json"
            pod = json.loads(case.read_text())["pod"]
            review = {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "request": {
                    "uid": "1",
                    "operation": "CREATE",
                    "namespace": "prod",
                    "resource": {"group": "", "version": "v1", "resource": "pods"},
                    "object": pod,
                },
            }
            headers = {"content-type": "application/json"}
            connection.request("POST", "/mutate", json.dumps(review), headers)
            answer = json.loads(connection.getresponse().read())["response"]
            assert answer["uid"] == "1" and answer["allowed"] is True, answer
            steps = json.loads(base64.b64decode(answer["patch"]))
            assert any(step["path"] == "/spec/initContainers" for step in steps), steps
            connection.request("GET", "/readyz")
            assert connection.getresponse().read() == b"ok\n"


@check
def the_page_of_the_injector_has_every_annotation():
    page = (DEPLOY / "injector/README.md").read_text()
    source = (DEPLOY / "injector/src/mutate/options.rs").read_text()
    known = source.split("const KNOWN", 1)[1].split("];", 1)[0].split('"')[1::2]
    missing = [name for name in known if f"`{name}`" not in page]
    assert len(known) > 15 and not missing, missing
    return f"{len(known)} annotations"
