"""Whether a network camera answers, asked before a library is that may wait long for it."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import Iterator

from edge.errors import CaptureError

_TIMEOUT_S = 5.0
_MOST_BYTES = 4096


def check_reachable(address: str) -> None:
    """Raises CaptureError, with the system's reason, if nobody listens at `address` (host:port).

    GStreamer, asked to open a camera that is not there, may wait for ever.
    """
    with _connected(address):
        """That is all."""


def check_answers(address: str) -> None:
    """Raises CaptureError if nobody at `address` speaks RTSP; it needs neither user nor path."""
    question = f"OPTIONS rtsp://{address}/ RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edge\r\n\r\n"
    with _connected(address) as connection:
        connection.sendall(question.encode("ascii"))
        answer = _read_head(connection)
    if not answer:
        raise CaptureError(f"{address} hangs up: is it a camera's RTSP port?")


@contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S) as connection:
            yield connection
    except (OSError, UnicodeError) as error:  # a label of over 63 characters is no host name
        reason = getattr(error, "strerror", None) or error
        raise CaptureError(f"no answer from {address}: {reason}") from error


def _read_head(connection: socket.socket) -> bytes:
    """All of it, lest the other side is told that it was not wanted."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MOST_BYTES:
        received = connection.recv(_MOST_BYTES)
        if not received:
            break
        head += received
    return head
