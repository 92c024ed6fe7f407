"""Cameras: sources, readers, mailboxes.

A `Source` delivers pictures, a `Reader` runs it in a thread of its own (pace, rate cap,
reconnection, status) and puts each frame into the camera's `Mailbox`, where the newest waits.
Nothing is shared between two cameras.
"""

from __future__ import annotations

from edge.capture.mailbox import Mailbox
from edge.capture.opening import RenderFactory, open_source
from edge.capture.reader import Reader
from edge.capture.source import Picture, Source

__all__ = [
    "Mailbox",
    "Picture",
    "Reader",
    "RenderFactory",
    "Source",
    "open_source",
]
