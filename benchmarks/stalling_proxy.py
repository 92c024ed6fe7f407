"""A TCP proxy that stalls, cuts and forgets connections, as networks do."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from typing import List, Tuple

_TICK_S = 0.05
_CHUNK_BYTES = 65_536
_SLOW_CHUNK_BYTES = 1_000


class StallingProxy:
    """Forwards to `port` on the loopback what comes in on its own `port`, while it likes to."""

    def __init__(self, port: int) -> None:
        self._to_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._bytes_per_s = 0.0
        self._is_flowing = threading.Event()
        self._is_flowing.set()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._pairs: List[Tuple[socket.socket, socket.socket]] = []
        self._forgotten: List[Tuple[socket.socket, socket.socket]] = []
        self._threads: List[threading.Thread] = []
        self._spawn(self._accept)

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._is_flowing.clear()

    def slow(self, bytes_per_s: float) -> None:
        """So much passes, of every connection each way."""
        self._bytes_per_s = bytes_per_s

    def flow(self) -> None:
        """Everything passes again, what was held back too."""
        self._bytes_per_s = 0.0
        self._is_flowing.set()

    def cut(self) -> None:
        """Resets every connection."""
        for pair in self._take_pairs():
            for sock in pair:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                _close(sock)

    def forget(self) -> None:
        """Leaves every connection half open: both ends believe in it, nothing passes."""
        self._forgotten += self._take_pairs()

    def close(self) -> None:
        """Ends everything."""
        self._stopping.set()
        self.flow()
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()
        for pair in [*self._take_pairs(), *self._forgotten]:
            for sock in pair:
                _close(sock)

    def _take_pairs(self) -> List[Tuple[socket.socket, socket.socket]]:
        with self._lock:
            pairs, self._pairs = self._pairs, []
            return pairs

    def _spawn(self, body: object, *args: object) -> None:
        thread = threading.Thread(target=body, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            if not select.select([self._listener], [], [], _TICK_S)[0]:
                continue
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._to_port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(5)
            near.settimeout(5)
            pair = (near, far)
            with self._lock:
                self._pairs.append(pair)
            self._spawn(self._pump, pair)

    def _pump(self, pair: Tuple[socket.socket, socket.socket]) -> None:
        while not self._stopping.is_set():
            if not self._is_flowing.wait(_TICK_S):
                continue
            with self._lock:
                if pair not in self._pairs:
                    return
            try:
                if not self._pass_on(pair):
                    break
            except (OSError, ValueError):
                break
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
        for sock in pair:
            _close(sock)

    def _pass_on(self, pair: Tuple[socket.socket, socket.socket]) -> bool:
        ready, _, _ = select.select(pair, [], [], _TICK_S)
        for sock in ready:
            data = sock.recv(_SLOW_CHUNK_BYTES if self._bytes_per_s else _CHUNK_BYTES)
            if not data:
                return False
            pair[sock is pair[0]].sendall(data)
            if self._bytes_per_s:
                self._stopping.wait(len(data) / self._bytes_per_s)
        return True


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.close()
