"""An embeddings server in the form of OpenAI's: one model, one worker.

usage: python server.py   (says the port it took, as a line of JSON)

GET /compute says how much the model has worked since the start.
"""

import base64
import http.server
import json
import threading
import time

from model import NAME, Model, check

# More than any client of this benchmark sends; a batch is padded to its longest text.
INPUTS_MAX = 256


class Wrong(Exception):
    """A request that cannot be answered; the text says why."""


class Worker:
    """The model, one request at a time, and what its work took."""

    def __init__(self):
        self.model = Model()
        check(self.model)
        self.free = threading.Lock()
        self.worked = {"calls": 0, "inputs": 0, "tokens": 0, "cpu_s": 0.0}

    def embed(self, texts):
        with self.free:
            # Of this thread alone: numpy is told to use no others (see run).
            start = time.thread_time()
            rows, counts = self.model.embed(texts)
            worked = self.worked
            worked["cpu_s"] += time.thread_time() - start
            worked["calls"] += 1
            worked["inputs"] += len(texts)
            worked["tokens"] += sum(counts)
        return rows, counts


def answer(worker, body):
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise Wrong(f"the body is not JSON: {error}") from error
    if not isinstance(asked, dict) or asked.get("model") != NAME:
        raise Wrong(f"model: only {NAME} is served")
    texts = asked.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Wrong("input: a text or a list of texts, none of them empty")
    if not 1 <= len(texts) <= INPUTS_MAX:
        raise Wrong(f"input: 1 to {INPUTS_MAX} texts")
    if "dimensions" in asked:
        raise Wrong("dimensions: this model has 384, no fewer")
    form = asked.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise Wrong("encoding_format: float or base64")
    rows, counts = worker.embed(texts)
    if form == "base64":
        shown = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    else:
        # What float32 holds, not the longer decimals of the double it becomes.
        shown = [[float(f"{value:.9g}") for value in row] for row in rows]
    data = [
        {"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)
    ]
    tokens = sum(counts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": NAME, "usage": usage}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: with two, Nagle's algorithm adds 40 ms to each call.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/compute":
            self.reply(200, self.server.worker.worked)
        else:
            self.refuse(404, f"{self.path}: not found")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/v1/embeddings":
            self.refuse(404, f"{self.path}: not found")
            return
        try:
            self.reply(200, answer(self.server.worker, body))
        except Wrong as wrong:
            self.refuse(400, str(wrong))

    def refuse(self, status, message):
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self.reply(status, {"error": error})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.worker = Worker()
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
