"""A network camera for tests: a clip in a loop over RTSP, interleaved on TCP (RFC 2326)."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, List, Optional, Type

_REPLIES = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
    "PLAY": "Session: 1\r\n",
}


class RtspCamera:
    """Serves while its `with` block lasts; `port` 0 picks a free one."""

    def __init__(self, clip: Path, work_dir: Path, port: int = 0) -> None:
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind(("127.0.0.1", 0))
        self._rtp.settimeout(0.2)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.2)
        self.port = self._listener.getsockname()[1]
        self._sdp_file = work_dir / f"{self.port}.sdp"
        self._clip = clip
        self._players: List[socket.socket] = []
        self._is_closing = threading.Event()
        self._threads = [threading.Thread(target=f) for f in (self._accept, self._relay)]

    def __enter__(self) -> RtspCamera:
        rtp_port = self._rtp.getsockname()[1]
        command = (
            *("ffmpeg", "-v", "error", "-nostdin", "-re", "-stream_loop", "-1"),
            *("-i", str(self._clip), "-c", "copy", "-sdp_file", str(self._sdp_file)),
            *("-f", "rtp", f"rtp://127.0.0.1:{rtp_port}"),
        )
        self._encoder = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(6000):
            if self._sdp_file.exists() and "m=video" in self._sdp_file.read_text():
                break
            time.sleep(0.01)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._is_closing.set()
        self._encoder.kill()
        self._encoder.wait()
        for thread in self._threads:
            thread.join()
        for connection in (self._rtp, self._listener, *self._players):
            connection.close()

    def _accept(self) -> None:
        while not self._is_closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except socket.timeout:
                continue
            connection.settimeout(5.0)
            with connection.makefile("rb") as requests:
                self._talk(connection, requests)

    def _talk(self, connection: socket.socket, requests: BinaryIO) -> None:
        for line in iter(requests.readline, b""):
            method = line.split()[0].decode()
            headers = dict(_read_headers(requests))
            body = self._sdp() if method == "DESCRIBE" else ""
            reply = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n" + _REPLIES.get(method, "")
            if body:
                reply += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(f"{reply}\r\n{body}".encode())
            if method == "PLAY":
                self._players.append(connection)
                return
        connection.close()

    def _sdp(self) -> str:
        lines = self._sdp_file.read_text().split("\n")
        return "\r\n".join(line.strip() for line in lines if not line.startswith("SDP:"))

    def _relay(self) -> None:
        while not self._is_closing.is_set():
            try:
                packet = self._rtp.recv(65536)
            except socket.timeout:
                continue
            for player in tuple(self._players):
                try:
                    player.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                except OSError:
                    self._players.remove(player)
                    player.close()


def _read_headers(requests: BinaryIO) -> List[List[str]]:
    lines = iter(requests.readline, b"\r\n")
    return [[part.strip() for part in line.decode().lower().split(":", 1)] for line in lines]
