"""A real loopback server that speaks OpenAI's protocol, and misbehaves as a test tells it to."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "sk-very-secret-1234567890"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Hang:
    """No reply at all, for longer than any test's time-out."""

    SECONDS = 1.0


class Drop:
    """Half a body, and the connection is gone."""


def completion(text: str | None, **more) -> str:
    """A chat completion of 20 tokens read and 7 generated."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                       "usage": usage, **more})  # fmt: skip


class Server:
    """Answers each POST with what `script(number, body)` says: a text, (status, headers, body), Hang or Drop.

    `bodies`, `headers` and `times` are those of the POSTs; `models` is what GET /models gives.
    """

    def __init__(self, script: Callable | None = None, port: int = 0):
        self.script = script or (lambda number, body: "fine")
        self.models = (404, {}, "{}")
        self.bodies, self.headers, self.times = [], [], []
        self.now = 0  # requests under way
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.reply(*outer.models)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(self.headers)
                    outer.times.append(time.monotonic())
                    outer.now += 1
                try:
                    self.answer(outer.script(number, body))
                finally:
                    with lock:
                        outer.now -= 1

            def answer(self, found):
                if found is Hang:
                    time.sleep(Hang.SECONDS)
                    self.close_connection = True
                elif found is Drop:
                    self.reply(200, {"Content-Length": "5000"}, '{"id": "1", "choi')
                    self.close_connection = True
                elif isinstance(found, str) or found is None:
                    self.reply(200, {}, completion(found))
                else:
                    self.reply(*found)

            def reply(self, status, headers, text):
                self.send_response(status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(text.encode())), **headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        class Http(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self.http = Http(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
