"""What the plans behind the overlays ask for: their thresholds, their nodes, and quotas that admit them."""

import collections
import json

import yaml
from stage import check, configurations, manifests, named, number, objects, pods

# The pods of a rollout that are there beside the full number.
SURGE = 1

# From the five plans: pods, CPU and memory in percent, the queue's marks (out, in), the times in seconds, the steps
# out (percent, pods, every s) and in.
PLANS = {
    "marketing": dict(
        hpa="marketing-service-hpa",
        target="marketing-service",
        pods=(3, 50),
        cpu=70,
        memory=80,
        queue=(200, 20),
        p95=1,
        out=(100, 5, 15),
    ),
    "customer-service": dict(
        hpa="customer-service-hpa",
        target="customer-service",
        pods=(2, 20),
        cpu=70,
        memory=80,
        queue=(100, 10),
        p95=1,
        out=(100, 4, 15),
    ),
    "code-generation": dict(
        hpa="code-generation-hpa",
        target="code-generation",
        pods=(3, 50),
        cpu=70,
        memory=80,
        queue=(100, None),
        p95=2,
        out=(100, 5, 60),
    ),
    "medical": dict(
        hpa="medical-ai-hpa",
        target="medical-ai-service",
        pods=(2, 20),
        gpu=80,
        queue=(50, 5),
        p95=5,
        errors=0.01,
        out=(100, 2, 15),
    ),
    "personalization": dict(
        hpa="personalization-hpa",
        target="personalization-engine",
        pods=(3, 20),
        cpu=70,
        memory=80,
        p99_ms=100,
    ),
}


@check
def each_plans_thresholds_are_its_autoscalers():
    for stem, plan in PLANS.items():
        it = named(stem, "HorizontalPodAutoscaler", plan["hpa"])["spec"]
        assert (it["minReplicas"], it["maxReplicas"]) == plan["pods"], stem
        assert it["scaleTargetRef"]["name"] == plan["target"], stem
        of = {}
        for metric in it["metrics"]:
            one = metric[metric["type"][0].lower() + metric["type"][1:]]
            target = one["target"]
            name = one.get("name") or one["metric"]["name"]
            if metric["type"] == "ContainerResource":
                # Nothing but these two is a resource to an autoscaler, and the container is there.
                assert name in ("cpu", "memory"), stem
                pod = named(stem, "Deployment", plan["target"])["spec"]["template"]["spec"]
                assert one["container"] in [container["name"] for container in pod["containers"]], (
                    stem
                )
            assert metric["type"] != "Resource", f"{stem}: counts the sidecar with the server"
            of[name] = number(
                target.get("averageUtilization") or target.get("averageValue") or target["value"]
            )
        assert (of.get("cpu"), of.get("memory")) == (plan.get("cpu"), plan.get("memory")), stem
        assert of.get("gpu_utilization_percent") == plan.get("gpu"), stem
        assert of.get("fleet_request_latency_p95_seconds") == plan.get("p95"), stem
        assert of.get("fleet_request_error_ratio") == plan.get("errors"), stem
        assert of.get("recommendation_latency_p99") == plan.get("p99_ms"), stem
        if "queue" in plan:
            high, low = plan["queue"]
            # A fifth of the mark above which more are asked for; the mark below is half of it.
            assert of["request_queue_length"] == high / 5, stem
            assert low is None or low == of["request_queue_length"] / 2, stem
        if "out" in plan:
            percent, count, seconds = plan["out"]
            out = {
                (p["type"], p["value"], p["periodSeconds"])
                for p in it["behavior"]["scaleUp"]["policies"]
            }
            assert out == {("Percent", percent, seconds), ("Pods", count, seconds)}, stem
            down = it["behavior"]["scaleDown"]
            assert down["stabilizationWindowSeconds"] == 300, stem
            assert down["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 60}], stem


@check
def kedas_thresholds_are_those_of_the_autoscaler_it_replaces():
    plan, stem = PLANS["customer-service"], "customer-service-keda"
    spec = named(stem, "ScaledObject", "model")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == plan["pods"]
    assert spec["scaleTargetRef"]["name"] == plan["target"]
    triggers = {trigger.get("name") or trigger["type"]: trigger for trigger in spec["triggers"]}
    assert float(triggers["queue"]["metadata"]["threshold"]) == plan["queue"][0] / 5
    for resource in ("cpu", "memory"):
        asked = triggers[resource]["metadata"]
        assert (asked["containerName"], asked["value"]) == (plan["target"], str(plan[resource]))
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (
        behavior
        == named("customer-service", "HorizontalPodAutoscaler", plan["hpa"])["spec"]["behavior"]
    )
    assert "HorizontalPodAutoscaler" not in {it["kind"] for it in manifests()[stem]}


@check
def autoscalers_aim_at_seven_tenths_of_what_runs_at_a_time():
    n = 0
    for stem, text in configurations():
        config = yaml.safe_load(text)
        limit = config["upstreams"]["model"]["concurrency"]["limit"]
        for other, it in objects("HorizontalPodAutoscaler"):
            for metric in it["spec"]["metrics"]:
                if (
                    other == stem
                    and metric["type"] == "Pods"
                    and metric["pods"]["metric"]["name"] == "request_concurrency"
                ):
                    aim = number(metric["pods"]["target"]["averageValue"])
                    assert abs(aim - 0.7 * limit) < 1e-9, f"{stem}: {aim} of {limit}"
                    n += 1
        for other, it in objects("ScaledObject"):
            for trigger in it["spec"]["triggers"]:
                if other == stem and "request_concurrency" in trigger["metadata"].get("query", ""):
                    assert abs(float(trigger["metadata"]["threshold"]) - 0.7 * limit) < 1e-9, stem
                    n += 1
        # A call that runs for long holds a place for as long as this at most; a queue is ten times what runs.
        for one in config.get("classes", []):
            assert one["queue"] >= 10 * limit or one.get("strict"), f"{stem}: {one['name']}"
    assert n >= 8, n


@check
def a_vertical_autoscaler_leaves_tollgate_and_what_a_horizontal_one_drives():
    n = 0
    for stem, it in objects("VerticalPodAutoscaler"):
        policies = it["spec"]["resourcePolicy"]["containerPolicies"]
        target = it["spec"]["targetRef"]["name"]
        if target != "postgres":  # which carries none
            assert {"containerName": "tollgate", "mode": "Off"} in policies, stem
        moves = set()
        for policy in policies:
            for bound in ("minAllowed", "maxAllowed"):
                assert policy.get(bound, {}).keys() <= {"cpu", "memory"}, (
                    f"{stem}: it knows nothing else"
                )
            if policy.get("mode") != "Off":
                moves |= set(policy["controlledResources"])
        drives = set()
        for other, scaler in objects("HorizontalPodAutoscaler"):
            if other == stem and scaler["spec"]["scaleTargetRef"]["name"] == target:
                drives |= {
                    m["containerResource"]["name"]
                    for m in scaler["spec"]["metrics"]
                    if m["type"] == "ContainerResource"
                }
        for other, scaler in objects("ScaledObject"):
            if other == stem and scaler["spec"]["scaleTargetRef"]["name"] == target:
                drives |= {t["type"] for t in scaler["spec"]["triggers"]} & {"cpu", "memory"}
        assert it["spec"]["updatePolicy"]["updateMode"] == "Off" or not moves & drives, stem
        n += 1
    return f"{n} of them"


@check
def keda_does_not_take_silence_for_zero():
    for stem, it in objects("ScaledObject"):
        spec = it["spec"]
        asks = [trigger for trigger in spec["triggers"] if trigger["type"] == "prometheus"]
        for trigger in asks:
            assert trigger["metadata"]["ignoreNullValues"] == "false", stem
            # Fallback is of targets of this kind only.
            assert trigger["metricType"] == "AverageValue", stem
            assert f'namespace="{it["metadata"]["namespace"]}"' in trigger["metadata"]["query"], (
                stem
            )
        assert not asks or spec["fallback"]["replicas"] >= spec["minReplicaCount"], stem


def requests(pod):
    """What a pod asks for: its containers and its sidecars."""
    asked = collections.Counter()
    for container in pod["containers"] + pod.get("initContainers", []):
        for kind in ("requests", "limits"):
            for name, value in container["resources"].get(kind, {}).items():
                if kind == "requests" or name == "memory":
                    asked[f"{kind}.{name}"] += number(value)
    asked["pods"] = 1
    return asked


@check
def a_tenants_quota_and_limits_admit_the_most_that_its_autoscaler_may_ask_for():
    n = 0
    for stem, _ in objects("Namespace"):
        if stem == "injector":
            continue  # no tenant's: once for a cluster
        needed, emergency = collections.Counter(), 0
        limits = named(stem, "LimitRange", "tenant")["spec"]["limits"][0]
        for other, owner, template in pods():
            if other != stem:
                continue
            pod = template["spec"]
            most = owner["spec"].get("replicas", 1)
            for at, it in objects("HorizontalPodAutoscaler", "ScaledObject"):
                if at == stem and it["spec"]["scaleTargetRef"]["name"] == owner["metadata"]["name"]:
                    most = it["spec"].get("maxReplicas") or it["spec"]["maxReplicaCount"]
                    most += SURGE if owner["metadata"]["name"] != "batch" else 0
            for name, value in requests(pod).items():
                needed[name] += most * value
            if pod.get("priorityClassName") == "emergency-priority":
                emergency += most
            for container in pod["containers"] + pod.get("initContainers", []):
                for name, value in container["resources"]["requests"].items():
                    if name in limits["max"]:
                        assert (
                            number(limits["min"][name])
                            <= number(value)
                            <= number(limits["max"][name])
                        ), stem
        hard = named(stem, "ResourceQuota", "tenant")["spec"]["hard"]
        for name, value in needed.items():
            allowed = number(hard[name])
            assert value <= allowed, f"{stem}: {name} needs {value}, the quota has {hard[name]}"
            # And it is a quota: not twice what is needed.
            assert value * 2 >= allowed or allowed < 8, (
                f"{stem}: {name} needs {value} of {hard[name]}"
            )
        urgent = named(stem, "ResourceQuota", "tenant-emergency")["spec"]
        assert emergency <= number(urgent["hard"]["pods"]), stem
        n += 1
    assert n >= len(PLANS), n
    return f"{n} namespaces"


@check
def pods_go_to_the_nodes_the_plans_name():
    def pod(stem, name, kind="Deployment"):
        return named(stem, kind, name)["spec"]["template"]["spec"]

    customer, code = (
        pod("customer-service", "customer-service"),
        pod("code-generation", "code-generation"),
    )
    medical = pod("medical", "medical-ai-service")
    assert customer["nodeSelector"] == {"node-type": "gpu"}
    assert code["nodeSelector"] == {"gpu": "true"}
    assert code["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    ]
    assert medical["nodeSelector"] == {"accelerator": "nvidia-gpu"}
    for one in (customer, medical):
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in one[
            "tolerations"
        ]
    for one in (customer, code, medical):
        resources = one["containers"][0]["resources"]
        assert (
            resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
        )
    assert medical["priorityClassName"] == "emergency-priority"
    for stem, it in objects("StatefulSet"):
        assert it["spec"]["template"]["spec"]["nodeSelector"] == {
            "node-type": "memory-optimized"
        }, stem
    for stem, it in objects("Deployment"):
        one = it["spec"]["template"]["spec"]
        if it["metadata"]["name"] == "batch":
            assert (
                one["priorityClassName"] == "batch-priority"
                and one["terminationGracePeriodSeconds"] < 30
            ), stem
            terms = one["affinity"]["nodeAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]["nodeSelectorTerms"]
            assert all("spot" in json.dumps(term).lower() for term in terms), stem
