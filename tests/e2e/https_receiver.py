"""A server of webhooks, as a pod runs it, with Python's standard library alone: each message that it is sent is a line of
JSON on its stdout. `python3 https_receiver.py PORT CERTIFICATE KEY`."""

from __future__ import annotations

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """It is ready."""
        self._answer(200)

    def do_POST(self) -> None:
        """A message."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(json.dumps({"path": self.path, "headers": dict(self.headers), "body": body}), flush=True)
        self._answer(204)

    def log_message(self, *_: object) -> None:
        """Nothing but the messages is told."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    port, certificate, key = sys.argv[1:]
    server = ThreadingHTTPServer(("", int(port)), _Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
