"""A device node of V4L2, asked beside whoever streams from it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Callable, Iterator

Ioctl = Callable[[int, bytearray], None]
"""Asks an open device; the answer replaces the bytes. Raises OSError."""


@contextlib.contextmanager
def opened(node: Path) -> Iterator[Ioctl]:
    """Opens a node, which takes nothing from whoever streams from it."""
    descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield lambda request, data: _ask(descriptor, request, data)
    finally:
        os.close(descriptor)


def _ask(descriptor: int, request: int, data: bytearray) -> None:
    fcntl.ioctl(descriptor, request, data, True)
