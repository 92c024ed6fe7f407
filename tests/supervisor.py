"""systemd's end of the notification socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from queue import Empty, SimpleQueue
from typing import List

PATIENCE_S = 60.0
_ALL = "all until here"


class Ear:
    """Hears what is told to `address`, which may be of the abstract kind, with an @."""

    def __init__(self, address: str) -> None:
        self._messages: SimpleQueue[str] = SimpleQueue()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._name = "\0" + address[1:] if address.startswith("@") else address
        self._socket.bind(self._name)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def heard(self) -> List[str]:
        """All that was told since the last call."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(_ALL.encode(), self._name)
        messages = []
        for message in iter(lambda: self._messages.get(timeout=PATIENCE_S), _ALL):
            messages.append(message)
        return messages

    def wait_for(self, message: str) -> List[str]:
        """All that comes up to `message`, with it; fails where it does not come."""
        heard: List[str] = []
        end = time.monotonic() + PATIENCE_S
        while message not in heard:
            assert time.monotonic() < end, f"no {message} in {heard}"
            with contextlib.suppress(Empty):
                heard.append(self._messages.get(timeout=1))
        return heard

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            message = self._socket.recv(4096)
            if not message:
                return
            self._messages.put(message.decode())
