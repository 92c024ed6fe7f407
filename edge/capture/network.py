"""Whether a network camera's address answers."""

from __future__ import annotations

import socket

from edge.errors import CaptureError

_TIMEOUT_S = 5.0


def check_reachable(address: str) -> None:
    """Raises CaptureError, with the system's reason, if nobody listens at `address` (host:port).

    GStreamer, asked to open a camera that is not there, may wait for ever.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:  # a label of over 63 characters is no host name
        reason = getattr(error, "strerror", None) or error
        raise CaptureError(f"no answer from {address}: {reason}") from error
