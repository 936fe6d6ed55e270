"""A rolling restart of three Tollgates behind HAProxy, under load, with streams that last: no call fails.

Each is ended as the kubelet ends a pod: the preStop hook's request first, SIGTERM when that was answered. HAProxy looks at
readiness, as a Service does, and may not ask a second time what failed.
"""

import concurrent.futures
import contextlib
import http.client
import http.server
import itertools
import json
import pathlib
import shutil
import subprocess
import tempfile
import threading

from stage import BINARY, PATIENCE_S, Running, Skip, check, free_port, until

PROXIES = 3
# Callers of short calls and of streams; of a stream, events and the time between them.
SHORT, STREAMS = 12, 6
EVENTS, PAUSE_S = 20, 0.1
BALANCER = """
defaults
  mode http
  timeout client 75s
  timeout server 75s
  timeout connect 5s
  # What fails has failed: no second try hides it.
  retries 0
frontend callers
  bind 127.0.0.1:{front}
  default_backend tollgates
frontend tell
  bind 127.0.0.1:{tell}
  stats enable
  stats uri /
backend tollgates
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 100ms fall 1 rise 1
"""
CONFIGURATION = """
upstreams: {{ m: {{ endpoints: [{{ url: "http://127.0.0.1:{port}" }}], concurrency: {{ limit: 64 }} }} }}
drain: {{ quiet: 1s, deadline: 20s }}
routes: [{{ name: chat, upstream: m, dialect: openai, cache: off }}]
"""


class Service(http.server.BaseHTTPRequestHandler):
    """A model server: an answer at once, or a stream that lasts."""

    protocol_version = "HTTP/1.1"
    ended = threading.Event()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        if not asked.get("stream"):
            body = json.dumps(
                {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
            )
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(EVENTS):
            self.event(json.dumps({"choices": [{"index": 0, "delta": {"content": "yes "}}]}))
            self.ended.wait(PAUSE_S)
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, said):
        data = f"data: {said}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class Tollgate:
    """One of the fleet, on ports that it keeps over its restarts."""

    def __init__(self, directory, name, file):
        self.listen, self.metrics = free_port(), free_port()
        self.command = [BINARY, "run", "-c", file, "--data-dir", f"{directory}/{name}"]
        self.running = None
        self.start()

    def start(self):
        addresses = [f"--listen=127.0.0.1:{self.listen}", f"--metrics=127.0.0.1:{self.metrics}"]
        self.running = Running(self.command, addresses=[*addresses, "--admin=127.0.0.1:0"])

    def end_as_a_pod(self):
        """The preStop hook, then SIGTERM; its exit code."""
        status, _ = self.running.metrics("/wait-for-drain")
        assert status == 200, status
        self.running.process.terminate()
        return self.running.process.wait(PATIENCE_S)


def call(port, number, stream):
    """Whether the answer was whole; else what was wrong with it."""
    asked = {"model": "m", "messages": [{"role": "user", "content": str(number)}], "stream": stream}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        with contextlib.closing(connection):
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
            answer = connection.getresponse()
            body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    if answer.status != 200:
        return f"{answer.status}: {body[:200]}"
    if stream and (b"[DONE]" not in body or body.count(b"data: ") != EVENTS + 1):
        return f"a stream that ends with {body[-60:]}"
    return None


@check
def a_rolling_restart_behind_a_balancer_fails_no_call_and_cuts_no_stream():
    if not shutil.which("haproxy"):
        raise Skip("no haproxy")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        service = stack.enter_context(Server(("127.0.0.1", 0), Service))
        threading.Thread(target=service.serve_forever, daemon=True).start()
        stack.callback(service.shutdown)
        stack.callback(Service.ended.set)
        file = pathlib.Path(directory, "tollgate.yaml")
        file.write_text(CONFIGURATION.format(port=service.server_address[1]))
        fleet = []
        for name in "abc"[:PROXIES]:
            fleet.append(Tollgate(directory, name, file))
            stack.callback(lambda one=fleet[-1]: one.running.__exit__())

        front, tell = free_port(), free_port()
        servers = "".join(
            f"  server {at} 127.0.0.1:{one.listen} port {one.metrics}\n"
            for at, one in enumerate(fleet)
        )
        balancer = pathlib.Path(directory, "haproxy.cfg")
        balancer.write_text(BALANCER.format(front=front, tell=tell) + servers)
        process = subprocess.Popen(["haproxy", "-db", "-f", balancer], stderr=subprocess.DEVNULL)
        stack.callback(lambda: (process.kill(), process.wait(PATIENCE_S)))

        def up(at):
            """Whether the balancer sends calls to the server."""
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", tell)) as connection:
                connection.request("GET", "/;csv")
                lines = connection.getresponse().read().decode().splitlines()
            names = lines[0].lstrip("# ").split(",")
            rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]
            row = next(
                row for row in rows if (row["pxname"], row["svname"]) == ("tollgates", str(at))
            )
            return row["status"].startswith("UP")

        for at in range(PROXIES):
            until(f"{at} is up", lambda at=at: up(at))

        stop, counted, wrong = threading.Event(), itertools.count(), []
        ended = {False: 0, True: 0}
        lock = threading.Lock()

        def caller(stream):
            while not stop.is_set():
                fault = call(front, next(counted), stream)
                with lock:
                    ended[stream] += 1
                    if fault:
                        wrong.append(fault)

        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(SHORT + STREAMS))
        stack.callback(stop.set)
        callers = [pool.submit(caller, at < STREAMS) for at in range(SHORT + STREAMS)]
        until("streams are under way", lambda: ended[True] >= STREAMS)
        for at, one in enumerate(fleet):
            assert one.end_as_a_pod() == 0
            until(f"{at} is seen to be gone", lambda at=at: not up(at))
            one.start()
            until(f"{at} is up again", lambda at=at: up(at))
        stop.set()
        for each in callers:
            each.result()
    assert not wrong, f"{len(wrong)} of {sum(ended.values())}: {wrong[:5]}"
    assert ended[True] >= 3 * STREAMS, ended
    return (
        f"{ended[False]} short calls, {ended[True]} streams of {EVENTS * PAUSE_S:.0f} s, 0 failed"
    )
