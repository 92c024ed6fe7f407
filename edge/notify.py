"""What the supervisor is told: systemd's notification protocol, and a file for who may only look.

The protocol is a datagram of lines KEY=value to the socket that NOTIFY_SOCKET names; see
sd_notify(3). Where there is no supervisor, nothing is said.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Mapping, Optional

from edge.atomic_file import replace_text
from edge.clock import NS_PER_S

log = logging.getLogger(__name__)

_NS_PER_US = 1_000
_US_PER_S = 1_000_000

# Told more often than asked for, so that one that comes late is not the end.
_BEATS_PER_INTERVAL = 4
# The interval where a file is written and nobody says how often.
_DEFAULT_INTERVAL_NS = 20 * NS_PER_S

# A supervisor that is busy, at boot say, is waited for; one that hangs must not hold up who works.
_PATIENCE_S = 0.5

# TensorRT may be silent for many minutes over one layer.
_STARTING_US = 3600 * _US_PER_S


class Supervisor:
    """Tells systemd, or whoever speaks its protocol, how this process is.

    What cannot be told is logged once and does no harm: the work goes on.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        interval_us: Optional[int] = None,
        alive_file: Optional[Path] = None,
    ) -> None:
        self._address = address
        self._alive_file = alive_file
        self._is_watched = interval_us is not None
        interval_ns = interval_us * _NS_PER_US if interval_us else _DEFAULT_INTERVAL_NS
        self._beat_ns = interval_ns // _BEATS_PER_INTERVAL
        self._next_beat_ns = 0
        self._status = ""
        self._has_warned = False
        self._is_owed_ready = False
        self._has_started = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Supervisor:
        """What systemd has put into the environment of the process `pid`.

        EDGE_ALIVE_FILE names a file that is rewritten while all is well.
        """
        interval = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        file = environ.get("EDGE_ALIVE_FILE")
        return cls(
            environ.get("NOTIFY_SOCKET") or None,
            int(interval) if interval.isdecimal() and int(interval) and is_ours else None,
            Path(file) if file else None,
        )

    def starting(self) -> None:
        """The start goes on, and may take another hour from here; nothing once it is done."""
        if self._has_started:  # it would move the watchdog's and the stop's limits, too
            return
        self._send(f"EXTEND_TIMEOUT_USEC={_STARTING_US}")

    def ready(self) -> None:
        """The start, or reading the configuration again, is done."""
        self._has_started = True
        self._is_owed_ready = not self._send("READY=1")

    def reloading(self, now_ns: int) -> None:
        """The configuration is read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_ns // _NS_PER_US}")

    def stopping(self) -> None:
        """The end has begun."""
        self._has_started = True
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for people."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self, now_ns: int) -> None:
        """All goes on; called often, tells it as often as it is worth."""
        if now_ns < self._next_beat_ns:
            return
        self._next_beat_ns = now_ns + self._beat_ns
        if self._is_owed_ready:  # else it would wait for ever
            self.ready()
        if self._is_watched:
            self._send("WATCHDOG=1")
        if self._alive_file is not None:
            self._write(self._alive_file, now_ns)

    def _write(self, file: Path, now_ns: int) -> None:
        try:
            replace_text(file, f"{now_ns}\n")
        except OSError as error:
            self._warn(f"{file} cannot be written: {error.strerror}")

    def _send(self, message: str) -> bool:
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(_PATIENCE_S)
                out.sendto(message.encode(), _socket_name(self._address))
        except OSError as error:
            self._warn(f"{self._address} cannot be told: {error.strerror or error}")
            return False
        return True

    def _warn(self, words: str) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        log.log(level, "the supervisor's %s", words)


def is_alive(file: Path, now_ns: int, limit_s: float) -> bool:
    """Whether `Supervisor.alive` was called on this machine within the last `limit_s`.

    `now_ns` is of the monotonic clock, which all containers of a machine share, and no time
    server sets.
    """
    try:
        told_ns = int(file.read_text("ascii"))
    except (OSError, ValueError):
        return False
    return 0 <= now_ns - told_ns <= limit_s * NS_PER_S


def _socket_name(address: str) -> str:
    # @ stands for the NUL of a name that is no file.
    return "\0" + address[1:] if address.startswith("@") else address
