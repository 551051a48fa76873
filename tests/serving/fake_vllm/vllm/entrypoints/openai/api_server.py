"""A fake of vLLM's server: it has an engine process, and answers requests for health, models and completions.

The variable FAKE names its faults, separated by spaces: die (at the start), late (starts too late), stubborn (ignores
SIGTERM), other (model), raw (log-probabilities), half (dtype), mute (accepts the first completion request of its first start
and never answers it). Its engine runs in a session of its own and does not end
by itself.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAKE = os.environ.get("FAKE", "").split()
MUTE = os.environ.get("FAKE_MUTE", "")  # exists once a request hangs
LOGITS = {5: 2.0, 6: 1.0, 7: -1.0}


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = "another-model" if "other" in FAKE else option("--served-model-name")
        self.reply({"data": [{"id": name, "root": option("--model")}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "mute" in FAKE and not os.path.exists(MUTE):  # noqa: PTH110 - as plain as the rest
            with open(MUTE, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write("asked")
            time.sleep(600)
        temperature = 1.0 if "raw" in FAKE else body["temperature"] or 1.0
        top = {f"token_id:{token}": logit / temperature for token, logit in LOGITS.items()}
        choice = {"index": 0, "token_ids": [5], "finish_reason": "stop", "logprobs": {"top_logprobs": [top]}}
        self.reply({"choices": [choice]})

    def reply(self, content: dict) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args: object) -> None:
        """Log nothing."""


def main() -> None:
    dtype = "bfloat16" if "half" in FAKE else option("--dtype")
    sys.stdout.write(f"engine with dtype=torch.{dtype}, seed=0\n")
    sys.stdout.flush()
    subprocess.Popen(["sleep", os.environ["FAKE_ENGINE"]], start_new_session=True)
    if "stubborn" in FAKE:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "die" in FAKE:
        raise RuntimeError("CUDA out of memory. Tried to allocate 7 GiB")
    if "late" in FAKE:
        time.sleep(600)
    server = ThreadingHTTPServer((option("--host"), int(option("--port"))), Handler)
    server.serve_forever()


main()
