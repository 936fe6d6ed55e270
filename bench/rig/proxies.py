"""The proxies side by side and the upstream behind them: how each is set up and started."""

import os
import pathlib
import shutil
import urllib.request

import load
from machine import free_ports, wait_for

EVENTS_HZ = 200
# As good as all at once: what the first byte waits for is the proxy, not the model.
FAST_HZ = 20_000
CACHE_SIZE = "64MiB"
KIB = 1024

# Keep-alive that never ends by count: a default of 1000 calls per connection would
# measure connecting.
NGINX_COMMON = """
daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.error warn; {user}
worker_processes 1; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  default_type application/json;
  keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  client_body_buffer_size 64k; client_max_body_size 4m;
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u;
  scgi_temp_path {folder}/{name}.s;
  {http}
}}
"""

UPSTREAM = """
  access_log off; open_file_cache max=16 inactive=1h;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /calls {{ stub_status; }}
    location / {{ return 200 '{answer}'; }}
  }}
"""

# An answer too long for a line of configuration, out of a file. A POST to a file is 405,
# which is turned into the answer of the GET.
FROM_FILE = """
  server {{
    listen 127.0.0.1:{port} backlog=1024; root {folder}; default_type {kind};
    location / {{ try_files /{file} =404; error_page 405 =200 $uri; }}
  }}
"""

# The access log stands for Tollgate's ledger, in every row.
PROXY = """
  access_log {folder}/access.log combined buffer=64k flush=1s;
  proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_cache_path {folder}/hits levels=1:2 keys_zone=hits:8m inactive=1h max_size=64m;
  proxy_cache_path {folder}/misses levels=1:2 keys_zone=misses:32m inactive=1h max_size=64m;
  proxy_cache_valid 200 1h;
"""
PLACE = """
  upstream up_{place} {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ {rule} proxy_pass http://up_{place}; }}
  }}
"""
BY_URL = 'proxy_cache hits; proxy_cache_key "$http_host$request_uri";'
BY_BODY = 'proxy_cache {zone}; proxy_cache_methods POST; proxy_cache_key "$http_host$request_uri$request_body";'

TOLLGATE = """
listeners: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
telemetry: {{ metrics: {{ address: "127.0.0.1:{metrics}" }} }}
data_dir: {folder}/data-{name}
{stores}
upstreams: {{ model: {{ endpoints: [{{ url: "http://127.0.0.1:{upstream}" }}] }} }}
routes:
  - name: chat
    match: {{ path: /v1/chat/completions, methods: [GET, POST] }}
    upstream: model
    cache: {cache}
  - {{ name: embeddings, match: {{ path: /v1/embeddings, methods: [POST] }}, upstream: model, cache: {cache} }}
cache: {{ namespace: "bench/{name}", memory: {{ size: {cache_size} }}, redis: {{ compression: zstd }} }}
"""

VCL = """
vcl 4.1;
import std;
import bodyaccess;
{backends}
sub vcl_recv {{
  {choice}
  if (req.method == "POST") {{ std.cache_req_body(4MB); set req.http.asked = "POST"; }}
  return (hash);
}}
sub vcl_hash {{ if (req.method == "POST") {{ bodyaccess.hash_req_body(); }} }}
sub vcl_backend_fetch {{ if (bereq.http.asked) {{ set bereq.method = "POST"; }} }}
sub vcl_backend_response {{ unset beresp.http.cache-control; set beresp.ttl = 1h; set beresp.uncacheable = false; return (deliver); }}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 75s
  timeout server 75s
  timeout connect 5s
cache hits
  total-max-size 64
  max-object-size 4000000
  max-age 3600
"""
HAPROXY_PLACE = """
frontend f_{place}
  bind 127.0.0.1:{port}
  default_backend b_{place}
backend b_{place}
  http-request cache-use hits
  http-response set-header cache-control max-age=3600
  http-response cache-store hits
  server up 127.0.0.1:{upstream}
"""


class Upstream:
    """The model server: nginx with fixed answers, and what it has been asked so far."""

    SIZES = (10 * KIB, 16 * KIB, KIB * KIB)

    def __init__(self, processes, core):
        self.port, self.file, self.stream, self.few, self.all, *ports = free_ports(5 + len(self.SIZES))
        self.sized = dict(zip(self.SIZES, ports))
        http = UPSTREAM.format(port=self.port, answer=load.answer())
        http += self.from_file(processes, self.file, "answer", "application/json", load.answer())
        kind = "text/event-stream"
        http += self.from_file(processes, self.stream, "stream", kind, load.stream(load.REPLAY_EVENTS))
        for port, count in ((self.few, load.NEW), (self.all, load.KNOWN + load.NEW)):
            http += self.from_file(processes, port, f"vectors-{count}", "application/json", load.vectors(count))
        for size, port in self.sized.items():
            name = f"answer-{size}"
            http += self.from_file(processes, port, name, "application/json", load.answer(size))
        self.pid = nginx(processes, "upstream", core, http)
        wait_for(f"http://127.0.0.1:{self.port}/calls", processes)

    @staticmethod
    def from_file(processes, port, name, kind, text):
        # A type by its name would go before the one that is wanted.
        (processes.folder / name).write_text(text)
        return FROM_FILE.format(port=port, folder=processes.folder, file=name, kind=kind)

    def calls(self):
        return asked_so_far(self.port)


class Emitter:
    """The model server that streams, `events` at a time, `hz` a second."""

    def __init__(self, processes, core, binary, events, hz=EVENTS_HZ):
        (self.port,) = free_ports(1)
        self.events = events
        self.pid = processes.start(f"emitter-{self.port}", core, [
            binary, "emit", f"127.0.0.1:{self.port}", str(events), str(hz)])
        self.authority = f"127.0.0.1:{self.port}"
        wait_for(f"http://{self.authority}/calls", processes)

    def calls(self):
        return asked_so_far(self.port)


def asked_so_far(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/calls", timeout=5) as answer:
        return int(answer.read().decode().splitlines()[2].split()[2])


class Nginx:
    """One nginx with a server per place: a name, a port, a rule, an upstream."""

    def __init__(self, processes, core, upstream, emitter, crowd, fast):
        by_url, by_body = BY_URL, BY_BODY.format(zone="hits")
        # A key longer than this buffer is refused; longer than 64 KiB there is none.
        long_key = f"proxy_buffer_size 32k; proxy_buffers 8 32k; {by_body}"
        lock = f"{by_url} proxy_cache_lock on; proxy_cache_lock_timeout 30s; proxy_ignore_headers Cache-Control;"
        ten, store = upstream.sized[10 * KIB], BY_BODY.format(zone="misses")
        places = {
            "passing": ("", upstream.port),
            "get": (by_url, upstream.port),
            "post": (by_body, upstream.port),
            "post16k": (long_key, upstream.port),
            "different": (store, upstream.port),
            "streaming": ("proxy_buffering off;", emitter.port),
            "get_16k": (by_url, upstream.sized[16 * KIB]),
            "get_1m": (by_url, upstream.sized[KIB * KIB]),
            "get_stream": (by_url, upstream.stream),
            "pass_10k": ("", ten),
            "store_10k": (store, ten),
            "crowd": (lock, crowd.port),
            "first": ("proxy_buffering off;", fast.port),
            "lists": ("proxy_buffer_size 32k; proxy_buffers 16 32k;", upstream.all),
        }
        ports = dict(zip(places, free_ports(len(places))))
        http = PROXY.format(folder=processes.folder)
        for place, (rule, to) in places.items():
            http += PLACE.format(place=place, port=ports[place], rule=rule, upstream=to)
        self.pid = nginx(processes, "nginx", core, http)
        self.authorities = {place: f"127.0.0.1:{port}" for place, port in ports.items()}
        wait_for(f"http://{self.authorities['passing']}/", processes)


def cached_places(upstream, crowd):
    """What the peers that only cache have a place for: its name and its upstream's port."""
    return {
        "get": upstream.file, "get_16k": upstream.sized[16 * KIB], "get_1m": upstream.sized[KIB * KIB],
        "get_stream": upstream.stream, "crowd": crowd.port,
    }


class Varnish:
    """One Varnish with a socket per place; a POST is told apart by its body."""

    NEEDS = {"varnishd": ("varnish", "varnish-modules")}

    def __init__(self, processes, core, upstream, crowd):
        places = cached_places(upstream, crowd)
        ports = dict(zip(places, free_ports(len(places))))
        backends = "".join(
            f'backend {place} {{ .host = "127.0.0.1"; .port = "{port}"; }}\n'
            for place, port in places.items())
        choice = "".join(
            f'if (local.socket == "{place}") {{ set req.backend_hint = {place}; }}\n' for place in places)
        vcl = processes.folder / "varnish.vcl"
        vcl.write_text(VCL.format(backends=backends, choice=choice))
        sockets = [word for place in places for word in ("-a", f"{place}=127.0.0.1:{ports[place]}")]
        self.pid = processes.start("varnish", core, [
            "varnishd", "-F", "-j", "none", "-n", str(processes.folder / "varnish"), "-f", str(vcl),
            "-s", "malloc,128m", "-p", "thread_pools=1", "-p", "thread_pool_min=100", *sockets])
        self.authorities = {place: f"127.0.0.1:{port}" for place, port in ports.items()}
        wait_for(f"http://{self.authorities['get']}/", processes)


class Haproxy:
    """One HAProxy with a frontend per place; it caches no POST and joins no calls."""

    NEEDS = {"haproxy": ("haproxy",)}

    def __init__(self, processes, core, upstream, crowd):
        places = cached_places(upstream, crowd)
        ports = dict(zip(places, free_ports(len(places))))
        config = processes.folder / "haproxy.cfg"
        config.write_text(HAPROXY + "".join(
            HAPROXY_PLACE.format(place=place, port=ports[place], upstream=port)
            for place, port in places.items()))
        self.pid = processes.start("haproxy", core, ["haproxy", "-db", "-f", str(config)])
        self.authorities = {place: f"127.0.0.1:{port}" for place, port in ports.items()}
        wait_for(f"http://{self.authorities['get']}/", processes)


class Redis:
    """A redis-server without files; its URL."""

    def __init__(self, processes, core):
        (port,) = free_ports(1)
        self.pid = processes.start("redis", core, [
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"])
        self.url = f"redis://127.0.0.1:{port}"


class Tollgate:
    """One Tollgate with one route."""

    def __init__(self, processes, core, binary, name, upstream, cache, redis=None):
        port, admin, metrics = free_ports(3)
        stores = f'stores: {{ redis: {{ urls: ["{redis.url}"], timeout: 100ms }} }}' if redis else ""
        config = processes.folder / f"{name}.yaml"
        config.write_text(TOLLGATE.format(
            folder=processes.folder, name=name, port=port, admin=admin, metrics=metrics,
            upstream=upstream, cache=cache, cache_size=CACHE_SIZE, stores=stores))
        self.pid = processes.start(f"tollgate-{name}", core, [binary, "run", "-c", str(config)])
        self.authority = f"127.0.0.1:{port}"
        self.telemetry = f"http://127.0.0.1:{metrics}"
        wait_for(f"{self.telemetry}/readyz", processes)

    def reading(self, series, label=""):
        """The sum over the labels of a series of `/metrics`, or over those with that one."""
        with urllib.request.urlopen(f"{self.telemetry}/metrics", timeout=5) as answer:
            return summed(answer.read().decode(), series, label)


def summed(text, series, label=""):
    return sum(float(line.split()[-1]) for line in text.splitlines()
               if line.split("{")[0].split(" ")[0] == series and label in line)


def is_here(*commands):
    return all(shutil.which(command) for command in commands)


def nginx(processes, name, core, http):
    folder = pathlib.Path(processes.folder)
    conf = folder / f"{name}.conf"
    # Started by root it would hand its workers to a user who may not enter our folder.
    user = "user root;" if os.geteuid() == 0 else ""
    conf.write_text(NGINX_COMMON.format(folder=folder, name=name, user=user, http=http))
    error = folder / f"{name}.error"
    return processes.start(name, core, ["nginx", "-e", str(error), "-p", str(folder), "-c", str(conf)])
