"""Alerts, dashboards and autoscalers ask Prometheus for what Tollgate has, in words that Prometheus understands."""

import collections
import functools
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import yaml
from stage import BINARY, DEPLOY, TOP, Running, Skip, check, manifests, objects

SNAPSHOT = TOP / "proxy/src/metrics/snapshots/tollgate__metrics__tests__classic.snap"
# Not Tollgate's: who has them, and with which labels.
FOREIGN = {
    "DCGM_FI_DEV_GPU_UTIL": {
        "gpu",
        "pod",
        "namespace",
        "container",
        "exported_pod",
        "exported_namespace",
    }
}
# Labels that the one who scrapes adds.
ADDED = {"namespace", "job", "instance", "pod"}
# What PromQL itself says where no parenthesis follows.
PROMQL = {"and", "or", "unless", "bool", "offset"}


def series_of(text):
    """Name and labels of every series of a scrape."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:{(.*)})? \S+", line)
        if match:
            name, labels = match.groups()
            found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))))
    return found


@functools.cache
def idle():
    """The series of a Tollgate that nobody has called yet, with every kind of store."""
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "tollgate.yaml")
        route = (
            "{ name: r, match: { path_prefix: / }, upstream: m, cache: { tiers: [memory, redis] } }"
        )
        file.write_text(
            "stores: { redis: { urls: ['redis://127.0.0.1:1'] } }\n"
            "upstreams: { m: { endpoints: [{ url: 'http://127.0.0.1:1' }] } }\n"
            f"routes: [{route}]\ncache: {{ namespace: here }}\n"
        )
        with Running([BINARY, "run", "-c", file, "--data-dir", f"{directory}/ledger"]) as tollgate:
            return series_of(tollgate.metrics("/metrics")[1])


@functools.cache
def there():
    """Labels by name, of what the snapshot of all metrics has and an idle Tollgate has (`process_…` is there only)."""
    found = {name: set(labels) for name, labels in FOREIGN.items()}
    for name, labels in series_of(SNAPSHOT.read_text()) + idle():
        found.setdefault(name, set()).update(labels)
    for rule in rules():
        if "record" in rule:
            by = re.search(r"by \(([^)]*)\)", rule["expr"])[1]
            found[rule["record"]] = {label.strip() for label in by.split(",")}
    return found


def asked_of(expression):
    """The series an expression selects, as (name, matchers), and the labels it groups by."""
    groups = re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression)
    rest = re.sub(r"\b(?:by|on|ignoring|without)\s*\([^)]*\)|\[[^\]]*\]", " ", expression)
    selected = []
    for name, braces in re.findall(r"([a-zA-Z_:][\w:]*)\s*({[^}]*})", rest):
        selected.append((name, re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', braces)))
    rest = re.sub(r"[a-zA-Z_:][\w:]*\s*{[^}]*}", " ", rest)
    rest = re.sub(r'"[^"]*"', " ", rest)
    assert "{" not in rest, f"not understood: {expression}"
    for name in re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", rest):
        if name not in PROMQL:
            selected.append((name, []))
    return selected, {label.strip() for group in groups for label in group.split(",")}


def must_be_there(where, expression):
    """Every series of the expression is Tollgate's, and has the labels that are asked for; how many there are."""
    selected, groups = asked_of(expression)
    assert selected, f"{where}: asks for nothing: {expression}"
    for name, matchers in selected:
        assert name in there(), f"{where}: {name} is no metric"
        has = there()[name] | ADDED
        wanted = {label for label, _, _ in matchers}
        assert wanted <= has, f"{where}: {name} has no {wanted - has}"
    every = set().union(*(there()[name] for name, _ in selected)) | ADDED
    assert groups <= every, f"{where}: none has {groups - every}"
    return len(selected)


def files_of_rules():
    return [
        yaml.safe_load(file.read_text()) for file in sorted((DEPLOY / "prometheus").glob("*.yaml"))
    ]


@functools.cache
def rules():
    return [
        rule for file in files_of_rules() for group in file["groups"] for rule in group["rules"]
    ]


def dashboards():
    """(dashboard, panel, query) of every query that a panel makes, Grafana's own words replaced."""
    for file in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "3h")
                query = query.replace('"$namespace"', '".*"').replace('"$job"', '".*"')
                assert "$" not in query, f"{file.name}: {panel['title']}: {query}"
                yield file.stem, panel["title"], query


def adapter():
    cluster = manifests()["cluster"]
    found = next(
        it
        for it in cluster
        if it["kind"] == "ConfigMap" and it["metadata"]["name"] == "prometheus-adapter"
    )
    return yaml.safe_load(found["data"]["config.yaml"])


def offered():
    """What the adapter offers: (HPA's type, name in it, series, query as Prometheus would get it)."""
    for rule in adapter()["rules"]:
        of_a_pod = "pod" in rule["resources"]["overrides"]
        asked = rule["seriesQuery"]
        plain = re.match(r"([a-zA-Z_:][\w:]*){", asked)
        pattern = re.search(r'__name__=~"\^(.*?)\$"', asked)
        # A pattern is words with choices in them: each choice must be a series.
        parts = re.split(r"\(([^)]*)\)", pattern[1]) if pattern else [plain[1]]
        choices = [part.split("|") if at % 2 else [part] for at, part in enumerate(parts)]
        for series in map("".join, itertools.product(*choices)):
            name = rule.get("name", {})
            assert re.fullmatch(name.get("matches", "(.*)"), series), f"{series} is not {name}"
            shown = name.get("as", "$1").replace("$1", series)
            # Of an object the adapter knows what is of what by the labels that it groups by.
            assert "by (<<.GroupBy>>)" in rule["metricsQuery"], shown
            query = rule["metricsQuery"].replace("<<.Series>>", series)
            query = query.replace(
                "<<.LabelMatchers>>",
                'namespace="n",pod=~"p|q"' if of_a_pod else 'job="j",namespace="n"',
            )
            yield (
                "Pods" if of_a_pod else "Object",
                shown,
                series,
                query.replace("<<.GroupBy>>", "pod" if of_a_pod else "namespace"),
            )


def expressions():
    """(where, expression) of all that is asked of Prometheus."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for dashboard, panel, query in dashboards():
        yield f"{dashboard}: {panel}", query
    for api, name, _, query in offered():
        yield f"adapter, {api}: {name}", query
    for stem, it in objects("ScaledObject"):
        for trigger in it["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield f"{stem}: {trigger['name']}", trigger["metadata"]["query"]


@check
def prometheus_understands_every_query():
    if not shutil.which("promtool"):
        raise Skip("no promtool")
    # It has no command that reads an expression; it reads rules.
    every = list(expressions())
    made = [{"record": f"query:{at}", "expr": query} for at, (_, query) in enumerate(every)]
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "queries.yaml")
        file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
        said = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr
        # And would not let a wrong one pass.
        made[0]["expr"] = "sum by (rate(a[5m]))"
        file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
        assert (
            subprocess.run(["promtool", "check", "rules", file], capture_output=True).returncode
            != 0
        )
    return f"{len(every)} queries"


@check
def every_query_asks_for_metrics_and_labels_that_there_are():
    n = sum(must_be_there(where, query) for where, query in expressions())
    for wrong in (
        "sum(tollgate_request_total)",
        'request_concurrency{class="vip"}',
        "sum by (klass) (tollgate_queue_length)",
    ):
        try:
            must_be_there("control", wrong)
        except AssertionError:
            continue
        raise AssertionError(f"{wrong} was taken")
    return f"{n} series"


@check
def what_alerts_look_for_is_in_a_scrape_of_an_idle_tollgate():
    # So that none is silent because a series, or a value of a label, does not exist; codes are there once they were given.
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked_for = 0
    for rule in rules():
        for name, matchers in asked_of(rule["expr"])[0]:
            if name in recorded or name in FOREIGN or name == "tollgate_requests_total":
                continue
            asked_for += 1
            labels = [labels for other, labels in idle() if other == name]
            assert labels, f"{name} is not in /metrics"
            for label, operator, value in matchers:
                if label in ADDED:
                    continue
                wanted = value.split("|") if operator == "=~" else [value]
                has = {one.get(label) for one in labels}
                assert has >= set(wanted), f"{name}: {label} is never {set(wanted) - has}"
    assert asked_for >= 15, asked_for


@check
def autoscalers_ask_for_what_the_adapter_offers():
    offers = {(api, name) for api, name, _, _ in offered()}
    assert len(offers) == len(list(offered())), "two rules offer the same"
    asked = set()
    for stem, it in objects("HorizontalPodAutoscaler"):
        for metric in it["spec"]["metrics"]:
            if metric["type"] in ("Pods", "Object"):
                one = (metric["type"], metric[metric["type"].lower()]["metric"]["name"])
                assert one in offers, f"{stem}: {one}"
                asked.add(one)
            # One server in a cluster has that API: KEDA, where it is.
            assert metric["type"] != "External", stem
    # A quantile and a ratio do not add up; what does is divided by the number of pods.
    for stem, it in objects("HorizontalPodAutoscaler"):
        for metric in (m["object"] for m in it["spec"]["metrics"] if m["type"] == "Object"):
            assert metric["describedObject"]["kind"] == "Namespace", stem
            assert metric["describedObject"]["name"] == it["metadata"].get(
                "namespace", "default"
            ), stem
            sums = re.search("concurrency|queue_length", metric["metric"]["name"])
            assert metric["target"]["type"] == ("AverageValue" if sums else "Value"), stem
            # The job is the label of the pods that carry the Tollgate.
            assert metric["metric"]["selector"]["matchLabels"]["job"] == (
                "tollgate" if stem == "standalone" else "model"
            )
    return f"{len(asked)} of {len(offers)}"


@check
def the_operators_rules_are_prometheus_own():
    found = {it["metadata"]["name"]: it["spec"] for _, it in objects("PrometheusRule")}
    own = {group["name"]: file for file in files_of_rules() for group in file["groups"][:1]}
    assert found == {"tollgate": own["tollgate-cache"], "personalization": own["personalization"]}


@check
def every_alert_names_a_section_of_the_runbook_and_every_section_an_alert():
    lines = (DEPLOY / "runbook.md").read_text().splitlines()
    sections = {line[3:].lower().replace(" ", "-") for line in lines if line.startswith("## ")}
    alerts = [rule for rule in rules() if "alert" in rule]
    named = {alert["annotations"]["runbook_url"] for alert in alerts}
    assert named == {f"deploy/runbook.md#{section}" for section in sections}, named
    at = None
    told = collections.defaultdict(str)
    for line in lines:
        at = line[3:].lower().replace(" ", "-") if line.startswith("## ") else at
        told[at] += line
    for alert in alerts:
        section = alert["annotations"]["runbook_url"].split("#")[1]
        assert f"`{alert['alert']}`" in told[section], alert["alert"]
    return f"{len(alerts)} alerts"


@check
def of_every_alert_a_test_sees_it_fire_and_another_sees_it_not():
    fires, silent = set(), set()
    for file in pathlib.Path(__file__).parent.glob("alerts*.yaml"):
        for test in yaml.safe_load(file.read_text())["tests"]:
            for one in test["alert_rule_test"]:
                (fires if one["exp_alerts"] else silent).add(one["alertname"])
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert fires == silent == alerts, (alerts - fires, alerts - silent, fires - alerts)
