"""Serves the report of a run or sweep on the loopback address, made anew when its files have changed.

Only files are read, so that it works beside a run of another process, or of a cluster that writes to a shared disk. The page asks for
`/signature` every two seconds, and loads itself again when that differs from the one it was made from. Torch-free.
"""

import html
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from r1exp.errors import R1ExpError, Refused
from r1exp.report.collect import Document, members_of
from r1exp.report.page import page_of
from r1exp.report.records import signature
from r1exp.report.write import target_of

HOST = "127.0.0.1"
_WAITING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>r1exp watch</title></head><body><main><h1>Waiting</h1><p>{reason}</p></main></body></html>
"""
_STATES_SECONDS = 6.0  # between two looks for runs that died
_DEAD = "vanished"  # the state of a run whose process no longer exists
States = Callable[[Path], dict[str, dict[str, str]]]


class Watch:
    """The newest page of a run or sweep.

    Args:
        folder: Of a run or a sweep; it need not exist yet.
        states: Returns state and reason of each run of a folder that is not done, for a run whose process died.
    """

    def __init__(self, folder: Path, states: States) -> None:
        self._folder = folder
        self._states = states
        self._lock = threading.Lock()
        self._page = ("", "")
        self._dead: tuple[float, dict[str, dict[str, str]]] = (-_STATES_SECONDS, {})

    def signature(self) -> str:
        """Return a text that changes when the page would."""
        try:
            runs = members_of(self._folder)
        except Refused as error:
            return str(error)
        return signature(runs) + repr(sorted(self._states_of_dead().items()))

    def page(self) -> str:
        """Return the page of the files as they are now."""
        now = self.signature()
        with self._lock:
            if self._page[0] != now:
                self._page = (now, self._made(now))
            return self._page[1]

    def _made(self, now: str) -> str:
        try:
            document = target_of([self._folder]).document()
        except (R1ExpError, OSError, ValueError) as error:  # not begun, or a file that is just being written
            return _WAITING.format(reason=html.escape(str(error)))
        return page_of(self._with_dead(document), live=now)

    def _states_of_dead(self) -> dict[str, dict[str, str]]:
        """Return state and reason of the runs whose processes no longer exist; asked for every few seconds."""
        asked, found = self._dead
        if time.monotonic() - asked > _STATES_SECONDS:
            found = {}
            with suppress(R1ExpError, OSError):
                found = {
                    name: state
                    for name, state in self._states(self._folder).items()
                    if state["state"] == _DEAD
                }
            self._dead = (time.monotonic(), found)
        return found

    def _with_dead(self, document: Document) -> Document:
        """Return the document, which says of runs that seem to be running that their processes have ended."""
        problems = [
            {"run": name, "step": "-", "reason": "", "log": "", **state}
            for name, state in self._states_of_dead().items()
        ]
        return Document(**{**vars(document), "problems": [*document.problems, *problems]})


def serve(watch: Watch, port: int, announce: Callable[[str], Any]) -> None:
    """Serve until Ctrl-C.

    Args:
        watch: Makes the page.
        port: To listen on; 0: a free one.
        announce: Called with the address.

    Raises:
        Refused: the port is taken.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), handler_of(watch))
    except OSError as error:
        raise Refused(
            f"port {port} cannot be used ({error.strerror}); leave out --port, and a free one is found"
        ) from error
    server.daemon_threads = True
    announce(f"http://{HOST}:{server.server_address[1]}/  (Ctrl-C ends it)")
    with server, suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.2)


def handler_of(watch: Watch) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests for the page, and for its signature."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
                self.send_error(403)  # a page of another site whose name leads here
                return
            found = {"/": ("text/html", watch.page), "/signature": ("text/plain", watch.signature)}.get(
                self.path
            )
            if found is None:
                self.send_error(404)
                return
            kind, content = found
            body = content().encode("utf-8")
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing: a line for each request hides the address."""

    return Handler
