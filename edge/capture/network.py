"""Whether a network camera answers, asked before a library is that may wait long for it."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import Iterator, Sequence, Tuple
from urllib.parse import urlsplit, urlunsplit

from edge.capture.names import RESOLVER
from edge.errors import CaptureError

# For connecting and answering together. With a lookup before and FFmpeg's time-out behind it, an
# opening is over before its thread is given up.
_TIMEOUT_S = 5.0
_LEAST_S = 0.1
_MOST_BYTES = 4096


def check_reachable(address: str) -> str:
    """The IP address at which somebody listens at `address` (host:port).

    Raises CaptureError, with the system's reason, if nobody does. GStreamer, asked to open a
    camera that is not there, may wait for ever.
    """
    with _connected(address) as (ip, _):
        return ip


def check_answers(address: str) -> str:
    """The IP address at which `address` speaks RTSP; it needs neither user nor path.

    Raises CaptureError if it does not.
    """
    with _connected(address) as (ip, connection):
        url = url_at(f"rtsp://{address}/", ip)
        question = f"OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edge\r\n\r\n"
        connection.sendall(question.encode("ascii"))
        answer = _read_head(connection)
    if not answer:
        raise CaptureError(f"{address} hangs up: is it a camera's RTSP port?")
    return ip


def url_at(url: str, ip: str) -> str:
    """The URL with its host's IP address instead of a name, which libraries would look up again.

    An rtsps URL keeps the name: TLS tells it to the camera.
    """
    parts = urlsplit(url)
    if parts.scheme == "rtsps":
        return url
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{ip}]" if ":" in ip else ip
    port = "" if parts.port is None else f":{parts.port}"
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}{port}"))


@contextmanager
def _connected(address: str) -> Iterator[Tuple[str, socket.socket]]:
    host, _, port = address.rpartition(":")
    ips = RESOLVER.addresses(host.strip("[]"))
    deadline_s = time.monotonic() + _TIMEOUT_S
    try:
        ip, connection = _connect(ips, int(port), deadline_s)
        with connection:
            connection.settimeout(max(deadline_s - time.monotonic(), _LEAST_S))
            yield ip, connection
    except OSError as error:
        raise CaptureError(f"no answer from {address}: {error.strerror or error}") from error


def _connect(ips: Sequence[str], port: int, deadline_s: float) -> Tuple[str, socket.socket]:
    """The first that takes the connection; each gets its share of the time."""
    failure = OSError("it has no address")
    for tried, ip in enumerate(ips):
        share_s = (deadline_s - time.monotonic()) / (len(ips) - tried)
        try:
            return ip, socket.create_connection((ip, port), max(share_s, _LEAST_S))
        except OSError as error:
            failure = error
    raise failure


def _read_head(connection: socket.socket) -> bytes:
    """All of it, lest the other side is told that it was not wanted."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MOST_BYTES:
        received = connection.recv(_MOST_BYTES)
        if not received:
            break
        head += received
    return head
