"""A real Prometheus scrapes a real Tollgate under load: the rules evaluate, an alert fires and ends, and each query of the
dashboards and of the adapter has an answer.

Minutes of the rules are seconds here; nothing else of them is changed.
"""

import concurrent.futures
import contextlib
import http.client
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.parse

from queries import dashboards, offered
from stage import BINARY, DEPLOY, PATIENCE_S, Running, Skip, check, free_port, until

LABELS = {"namespace": "shop", "job": "model", "pod": "model-1"}
PLACES = 2
WAITING = 60
# Panels that are empty in this world, and why.
EMPTY = {
    "GPUs": "no DCGM",
    "Stores": "no store",
    "Purges that wait for a store": "no store",
    "Tollgate's own calls": "it makes none",
    "Memory": "no limit of memory, where there is none",
}
# What no Tollgate serves: DCGM's.
FOREIGN_SERIES = {"namespace_pod:gpu_utilization_percent:avg"}
CONFIGURATION = f"""
upstreams: {{ m: {{ endpoints: [{{ url: "http://UPSTREAM" }}], concurrency: {{ limit: {PLACES} }} }} }}
telemetry: {{ metrics: {{ aliases: [{{ name: recommendation_latency_p99, quantile: 0.99, unit: ms, window: 60s }}] }} }}
routes:
  - name: chat
    upstream: m
    dialect: openai
    class: {{ header: x-priority, map: {{ batch: batch, vip: vip }} }}
    cache: {{ mode: content, ttl: 1h }}
cache: {{ namespace: here }}
"""
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


class Service(http.server.BaseHTTPRequestHandler):
    """A model server that answers while its gate is open, and one question with an error."""

    protocol_version = "HTTP/1.1"
    gate = threading.Event()

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"]))
        self.gate.wait(PATIENCE_S)
        body = json.dumps(ANSWER).encode()
        self.send_response(500 if b"fail" in asked else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    # All that wait come at one time.
    request_queue_size = 128
    daemon_threads = True


def ask(address, question, priority="normal", **more):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        body = json.dumps(
            {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}
        )
        headers = {"content-type": "application/json", "x-priority": priority, **more}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def hurried(text):
    """The rules with a second for a minute, evaluated every second, over windows that two scrapes fit in."""
    text = re.sub(r"interval: 15s", "interval: 1s", text)
    text = re.sub(r"for: (\d+)m", r"for: \1s", text)
    return re.sub(r"\[\d+m\]", "[30s]", text)


class Prometheus:
    def __init__(self, directory, target):
        rules = []
        for source in sorted((DEPLOY / "prometheus").glob("*.yaml")):
            rules.append(f"{directory}/{source.name}")
            pathlib.Path(rules[-1]).write_text(hurried(source.read_text()))
        file = pathlib.Path(directory, "configuration.yaml")
        scrape = {
            "job_name": LABELS["job"],
            "static_configs": [
                {"targets": [target], "labels": {k: v for k, v in LABELS.items() if k != "job"}}
            ],
        }
        file.write_text(
            json.dumps(
                {
                    "global": {
                        "scrape_interval": "1s",
                        "scrape_timeout": "1s",
                        "evaluation_interval": "1s",
                    },
                    "rule_files": rules,
                    "scrape_configs": [scrape],
                }
            )
        )
        self.address = f"127.0.0.1:{free_port()}"
        self.log = open(f"{directory}/log", "w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={self.address}",
            ],
            stderr=self.log,
            stdout=self.log,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.log.close()

    def get(self, path, **asked):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}?{urllib.parse.urlencode(asked)}")
            said = json.loads(connection.getresponse().read())
        assert said["status"] == "success", f"{asked}: {said}"
        return said["data"]

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def rules(self):
        return [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def alert(self, name):
        return next(rule["state"] for rule in self.rules() if rule["name"] == name)

    def until(self, what, holds):
        def goes_on():
            assert self.process.poll() is None, pathlib.Path(self.log.name).read_text()
            return holds()

        return until(what, goes_on)


def work(address, ended):
    """Misses and hits, an error, a refusal, two classes, until `ended`: rates have something to rise from."""
    n = 0
    while not ended.is_set():
        n += 1
        got = [
            ask(address, f"new {n}"),
            ask(address, "known"),
            ask(address, f"new {n} of a batch", "batch"),
            ask(address, f"fail {n}"),
            # Not kept, and nobody is to be asked.
            ask(address, f"never {n}", **{"cache-control": "only-if-cached"}),
        ]
        assert got == [200, 200, 200, 500, 504], got


def panels_without_answer(prometheus):
    return [
        f"{dashboard}: {panel}: {query}"
        for dashboard, panel, query in dashboards()
        if panel not in EMPTY and not prometheus.query(query)
    ]


def adapter_answers(prometheus):
    """Each query of the adapter, of this pod: one number; `{(type, name): number}`."""
    answers = {}
    for api, name, series, query in offered():
        if series in FOREIGN_SERIES:
            continue
        query = (
            query.replace('"n"', '"shop"').replace('"p|q"', '"model-1"').replace('"j"', '"model"')
        )
        result = prometheus.query(query)
        assert [one["metric"] for one in result] == [
            {"pod": "model-1"} if api == "Pods" else {"namespace": "shop"}
        ], result
        answers[api, name] = float(result[0]["value"][1])
    return answers


@check
def a_real_prometheus_evaluates_the_rules_under_load_and_answers_dashboards_and_adapter():
    if not shutil.which("prometheus"):
        raise Skip("no prometheus")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        service = stack.enter_context(Server(("127.0.0.1", 0), Service))
        threading.Thread(target=service.serve_forever, daemon=True).start()
        stack.callback(service.shutdown)
        file = pathlib.Path(directory, "tollgate.yaml")
        file.write_text(CONFIGURATION.replace("UPSTREAM", f"127.0.0.1:{service.server_address[1]}"))
        command = [BINARY, "run", "-c", file, "--data-dir", f"{directory}/ledger"]
        tollgate = stack.enter_context(Running(command))
        address = tollgate.addresses["listeners"]
        prometheus = stack.enter_context(Prometheus(directory, tollgate.addresses["metrics"]))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(WAITING + 1))
        stack.callback(Service.gate.set)

        # Idle: what autoscalers ask for is there, and 0; every rule evaluates, and none fires.
        prometheus.until("a first scrape", lambda: prometheus.query("request_queue_length"))
        idle = adapter_answers(prometheus)
        assert set(idle.values()) == {0}, idle
        prometheus.until(
            "the rules", lambda: all(rule["health"] == "ok" for rule in prometheus.rules())
        )
        said = [
            rule["name"]
            for rule in prometheus.rules()
            if rule.get("state", "inactive") != "inactive"
        ]
        assert not said, said

        # Work.
        ended = threading.Event()
        stack.callback(ended.set)
        Service.gate.set()
        worked = pool.submit(work, address, ended)
        # Or until it ended, which it does only if an answer was not as it should be.
        prometheus.until(
            "an answer for each panel",
            lambda: not panels_without_answer(prometheus) or worked.done(),
        )
        assert not worked.done(), worked.result()
        prometheus.until(
            "the alert on errors", lambda: prometheus.alert("TollgateErrorsHigh") == "firing"
        )
        ended.set()
        worked.result()

        # A service that hangs: callers wait, and Prometheus says so. It goes on, and that is over.
        Service.gate.clear()
        calls = [pool.submit(ask, address, f"wait {n}") for n in range(WAITING)]
        most = WAITING - PLACES
        prometheus.until(
            "a queue", lambda: prometheus.query(f"sum(request_queue_length) == {most}")
        )
        prometheus.until(
            "the alert on it", lambda: prometheus.alert("TollgateQueueLong") == "firing"
        )
        assert prometheus.alert("TollgateQueueVeryLong") == "inactive"
        busy = adapter_answers(prometheus)
        assert (
            busy["Pods", "request_queue_length"]
            == busy["Object", "fleet_request_queue_length"]
            == most
        ), busy
        assert busy["Pods", "request_concurrency"] == WAITING, busy
        Service.gate.set()
        assert {call.result() for call in calls} == {200}
        prometheus.until(
            "the end of it", lambda: prometheus.alert("TollgateQueueLong") == "inactive"
        )
        prometheus.until(
            "nobody waits", lambda: adapter_answers(prometheus)["Pods", "request_concurrency"] == 0
        )
        rules = len(prometheus.rules())
    return f"{rules} rules, {len(list(dashboards()))} queries of panels, {len(idle)} of the adapter"
