"""A small server with OpenAI's API: `python openai_server.py [KEY]` prints its port.

Its model `gemma` refuses a system message. Its models `thinker` and `reasoner` return their reasoning apart from the text. Its model `counter` continues a count (one two -> three four five <end>); the token ids are those of the words
in tests/rollout/conftest.py. GET /log returns the requests; POST /next queues statuses for the next answers.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["<pad>", "<end>", "one", "two", "three", "four", "five", "go"]
END, GO = 1, 7
REASONING = {"thinker": "reasoning_content", "reasoner": "reasoning"}  # model -> field of its message
KEY = sys.argv[1] if len(sys.argv) > 1 else None
LOG: list[dict] = []
NEXT: list[int] = []
LOCK = threading.Lock()


def count(last: int, max_tokens: int) -> tuple[list[int], str]:
    """Return the tokens that follow `last`, and the reason why they end."""
    tokens: list[int] = []
    while len(tokens) < max_tokens:
        last = {GO: 2, 6: END}.get(last, last + 1)
        tokens.append(last)
        if last == END:
            return tokens, "stop"
    return tokens, "length"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.reply(200, LOG)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/next":
            NEXT.extend(body)
            return self.reply(200, {})
        with LOCK:
            LOG.append(body)
            status = NEXT.pop(0) if NEXT else 200
        if status == -1:
            self.wfile.write(b"garbage")
            return None
        if status == -2:
            time.sleep(5)
        if KEY is not None and self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.reply(401, {"error": {"message": "wrong key"}})
        if status > 200:
            return self.reply(status, {"error": {"message": f"trouble {status}"}})
        if body["model"] == "gemma" and body["messages"][0]["role"] == "system":
            return self.reply(400, {"error": {"message": "System role not supported"}})
        if body["model"] not in ("counter", "gemma", *REASONING):
            return self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        return self.answer(body)

    def answer(self, body: dict) -> None:
        if self.path == "/v1/chat/completions":
            last = WORDS.index(body["messages"][-1]["content"].split()[-1])
            tokens, reason = count(last, body["max_tokens"])
            text = " ".join(WORDS[token] for token in tokens if token != END)
            message = {"content": text} | {
                REASONING[each]: "one more each time" for each in REASONING if each == body["model"]
            }
            choices = [{"index": 0, "message": message, "finish_reason": reason}]
            usage = {"completion_tokens": len(tokens), "prompt_tokens": 7}
            return self.reply(200, {"choices": choices, "usage": usage})
        tokens, reason = count(body["prompt"][-1], body["max_tokens"])
        choices = [
            {"index": k, "token_ids": tokens, "finish_reason": reason} for k in reversed(range(body["n"]))
        ]
        return self.reply(200, {"choices": choices})

    def reply(self, status: int, content: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
