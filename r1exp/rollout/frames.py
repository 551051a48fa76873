"""Sends messages between two processes through pipes: a JSON object and bytes that belong to it."""

import json
import struct
from typing import IO, Any

_LENGTHS = struct.Struct("!QQ")  # bytes of the JSON object, bytes that follow it


def send(pipe: IO[bytes], message: dict[str, Any], body: bytes = b"") -> None:
    """Write a message.

    Raises:
        BrokenPipeError: the other process is gone.
    """
    text = json.dumps(message).encode()
    pipe.write(_LENGTHS.pack(len(text), len(body)))
    pipe.write(text)
    pipe.write(body)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return the next message, or None if the other process has closed the pipe."""
    head = pipe.read(_LENGTHS.size)
    if len(head) < _LENGTHS.size:
        return None
    length, length_of_body = _LENGTHS.unpack(head)
    text, body = pipe.read(length), pipe.read(length_of_body)
    if len(text) < length or len(body) < length_of_body:
        return None
    message: dict[str, Any] = json.loads(text)
    return message, body
