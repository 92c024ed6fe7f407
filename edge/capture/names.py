"""Names of network cameras, looked up without anybody hanging in a name server that is down."""

from __future__ import annotations

import socket
import threading
from typing import Callable, Dict, List

from edge.capture.attempt import Attempt
from edge.errors import CaptureError

# The system asks three servers for 10 s each, and again for every search domain.
_TIMEOUT_S = 3.0


class Resolver:
    """Looks up each name in a thread of its own, one at a time for each name.

    What takes longer than anybody waits goes on; whoever asks for the name next gets the answer.
    """

    def __init__(self, lookup: Callable[[str], List[str]], timeout_s: float = _TIMEOUT_S) -> None:
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._underway: Dict[str, Attempt[List[str]]] = {}

    def addresses(self, host: str) -> List[str]:
        """The IP addresses of a host, the best first; raises CaptureError."""
        with self._lock:
            attempt = self._underway.get(host)
            if attempt is None:
                attempt = Attempt(f"resolve-{host}", lambda: self._lookup(host))
                self._underway[host] = attempt
        try:
            found = attempt.result(self._timeout_s)
        except CaptureError:
            self._forget(host, attempt)
            raise
        if found is None:
            waited = f"within {self._timeout_s:g} s"
            raise CaptureError(f"no name server says {waited} what address {host} has")
        self._forget(host, attempt)
        return found

    def _forget(self, host: str, attempt: Attempt[List[str]]) -> None:
        with self._lock:
            if self._underway.get(host) is attempt:
                del self._underway[host]


def look_up(host: str) -> List[str]:
    """What the system knows about a name, for as long as it takes; raises CaptureError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a label of over 63 characters is no host name
        reason = getattr(error, "strerror", None) or error
        raise CaptureError(f"the name {host} is not known here: {reason}") from error
    return [_numeric(*entry[4]) for entry in found]


def _numeric(ip: str, port: int, flow: int = 0, scope: int = 0) -> str:
    return f"{ip}%{scope}" if scope else ip


RESOLVER = Resolver(look_up)
"""The process has one."""
