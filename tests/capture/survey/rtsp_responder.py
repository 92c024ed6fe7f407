"""A network camera that answers requests by a script, and remembers them."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Callable, Dict, List, Mapping, Optional, Tuple

Request = Tuple[str, Dict[str, str]]
Script = Callable[[str, Mapping[str, str]], Optional[bytes]]
"""Answers a method with headers (lower case); None: never, b"": hangs up."""

SDP = "v=0\r\ns=cam\r\nm=audio 0 RTP/AVP 0\r\na=control:audio\r\nm=video 0 RTP/AVP 96\r\n"
SDP += "a=rtpmap:96 H264/90000\r\na=control:track1\r\n"
PACKET = b"$\x00\x00\x04abcd"


def reply(status: int, *headers: str, body: str = "") -> bytes:
    lines = [f"RTSP/1.0 {status} Words", "CSeq: 1", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body]).encode()


GOOD: Dict[str, bytes] = {
    "OPTIONS": reply(200, "Public: DESCRIBE, SETUP, PLAY"),
    "DESCRIBE": reply(200, body=SDP),
    "SETUP": reply(200, "Session: 7;timeout=60"),
    "PLAY": reply(200, "Session: 7") + PACKET,
}


def script(**changes: Optional[bytes]) -> Script:
    """Answers as a good camera does, but for some methods."""
    answers: Dict[str, Optional[bytes]] = {**GOOD, **changes}
    return lambda method, headers: answers.get(method, b"")


class RtspResponder:
    """Serves one connection after the other while its `with` block lasts."""

    def __init__(self, answer: Script, tls: Optional[ssl.SSLContext] = None) -> None:
        self._answer = answer
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: List[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.requests: List[Request] = []
        self.urls: List[str] = []

    def __enter__(self) -> RtspResponder:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        # What accept waits for, and then what a silent connection waits for.
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._thread.join()
        for opened in (self._listener, *self._open):
            opened.close()

    @property
    def methods(self) -> List[str]:
        return [method for method, _ in self.requests]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
                self._talk(connection)
            except OSError:
                continue

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            for line in iter(stream.readline, b""):
                method, url, *_ = [*line.decode("latin-1").split(), "", ""]
                headers = dict(_header(raw) for raw in iter(stream.readline, b"\r\n") if raw)
                self.requests.append((method, headers))
                self.urls.append(url)
                answer = self._answer(method, headers)
                if answer == b"":
                    break
                connection.sendall(answer or b"")
        connection.shutdown(socket.SHUT_RDWR)


def _header(raw: bytes) -> Tuple[str, str]:
    name, _, value = raw.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()
