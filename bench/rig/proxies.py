"""The proxies side by side and the upstream behind them: how each is set up and started."""

import os
import pathlib
import urllib.request

import load
from machine import free_ports, wait_for

EVENTS_HZ = 200
CACHE_SIZE = "64MiB"

# Keep-alive that never ends by count: a default of 1000 calls per connection would
# measure connecting.
NGINX_COMMON = """
daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.error warn; {user}
worker_processes 1; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  default_type application/json;
  keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u;
  scgi_temp_path {folder}/{name}.s;
  {http}
}}
"""

UPSTREAM = """
  access_log off;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /calls {{ stub_status; }}
    location / {{ return 200 '{answer}'; }}
  }}
"""

# The access log stands for Tollgate's ledger, in every row.
PROXY = """
  access_log {folder}/access.log combined buffer=64k flush=1s;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  upstream emitter {{ server 127.0.0.1:{emitter}; keepalive 128; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_cache_path {folder}/hits levels=1:2 keys_zone=hits:8m inactive=1h max_size=64m;
  proxy_cache_path {folder}/misses levels=1:2 keys_zone=misses:32m inactive=1h max_size=64m;
  proxy_cache_valid 200 1h;
  server {{ listen 127.0.0.1:{passing} backlog=1024; location / {{ proxy_pass http://model; }} }}
  server {{
    listen 127.0.0.1:{get} backlog=1024;
    location / {{ proxy_cache hits; proxy_cache_key "$host$request_uri"; proxy_pass http://model; }}
  }}
  server {{
    listen 127.0.0.1:{post} backlog=1024;
    location / {{
      proxy_cache hits; proxy_cache_methods POST; proxy_cache_key "$request_uri$request_body";
      proxy_pass http://model;
    }}
  }}
  server {{
    listen 127.0.0.1:{different} backlog=1024;
    location / {{
      proxy_cache misses; proxy_cache_methods POST; proxy_cache_key "$request_uri$request_body";
      proxy_pass http://model;
    }}
  }}
  server {{
    listen 127.0.0.1:{streaming} backlog=1024;
    location / {{ proxy_buffering off; proxy_pass http://emitter; }}
  }}
"""

TOLLGATE = """
listeners: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
telemetry: {{ metrics: {{ address: "127.0.0.1:{metrics}" }} }}
data_dir: {folder}/data-{name}
upstreams: {{ model: {{ endpoints: [{{ url: "http://127.0.0.1:{upstream}" }}] }} }}
routes:
  - name: chat
    match: {{ path: /v1/chat/completions, methods: [POST] }}
    upstream: model
    cache: {cache}
cache: {{ namespace: bench, memory: {{ size: {cache_size} }} }}
"""


class Nginx:
    """One nginx with a server per row."""

    PLACES = ("passing", "get", "post", "different", "streaming")

    def __init__(self, processes, core, upstream, emitter):
        folder = processes.folder
        ports = dict(zip(self.PLACES, free_ports(len(self.PLACES))))
        http = PROXY.format(folder=folder, upstream=upstream, emitter=emitter, **ports)
        self.pid = nginx(processes, "nginx", core, http)
        self.authorities = {place: f"127.0.0.1:{port}" for place, port in ports.items()}
        wait_for(f"http://{self.authorities['passing']}/", processes)


class Tollgate:
    """One Tollgate with one route."""

    def __init__(self, processes, core, binary, name, upstream, cache):
        port, admin, metrics = free_ports(3)
        config = processes.folder / f"{name}.yaml"
        config.write_text(TOLLGATE.format(
            folder=processes.folder, name=name, port=port, admin=admin, metrics=metrics,
            upstream=upstream, cache=cache, cache_size=CACHE_SIZE))
        self.pid = processes.start(f"tollgate-{name}", core, [binary, "run", "-c", str(config)])
        self.authority = f"127.0.0.1:{port}"
        self.telemetry = f"http://127.0.0.1:{metrics}"
        wait_for(f"{self.telemetry}/readyz", processes)

    def reading(self, series):
        """The sum over the labels of a series of `/metrics`."""
        with urllib.request.urlopen(f"{self.telemetry}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines
                   if line.split("{")[0].split(" ")[0] == series)


class Upstream:
    """The model server: nginx with one fixed answer, and what it has been asked so far."""

    def __init__(self, processes, core):
        (self.port,) = free_ports(1)
        http = UPSTREAM.format(port=self.port, answer=load.answer())
        self.pid = nginx(processes, "upstream", core, http)
        wait_for(f"http://127.0.0.1:{self.port}/calls", processes)

    def calls(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/calls", timeout=5) as answer:
            return int(answer.read().decode().splitlines()[2].split()[2])


def emitter(processes, core, binary, events):
    """The model server that streams; its port."""
    (port,) = free_ports(1)
    processes.start("emitter", core, [
        binary, "emit", f"127.0.0.1:{port}", str(events), str(EVENTS_HZ)])
    return port


def nginx(processes, name, core, http):
    folder = pathlib.Path(processes.folder)
    conf = folder / f"{name}.conf"
    # Started by root it would hand its workers to a user who may not enter our folder.
    user = "user root;" if os.geteuid() == 0 else ""
    conf.write_text(NGINX_COMMON.format(folder=folder, name=name, user=user, http=http))
    error = folder / f"{name}.error"
    return processes.start(name, core, ["nginx", "-e", str(error), "-p", str(folder), "-c", str(conf)])
