"""An OpenAI-compatible endpoint whose answers depend on the request alone: `python endpoint.py PORT`."""

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SECONDS = 0.1  # of one answer


class Handler(BaseHTTPRequestHandler):
    """Answers chat requests."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with a number that the messages and the seed decide."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(_SECONDS)
        text = json.dumps([body["messages"], body.get("seed")], sort_keys=True)
        number = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 60
        message = {"role": "assistant", "content": f"<think>counting</think><answer>{number}</answer>"}
        self._answer(
            {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 9}}
        )

    def do_GET(self) -> None:
        """List the only model."""
        self._answer({"data": [{"id": "soak"}]})

    def _answer(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write nothing."""


class Server(ThreadingHTTPServer):
    """Answers requests; a client that is killed is no error."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing."""


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
