"""Cameras: sources, readers, mailboxes.

A `Source` delivers pictures, a `Session` reads it in a thread of its own and opens it again when
it fails, a `Reader` replaces a session that hangs. The camera's `Intake` makes frames of the
pictures (identity, rate cap, status, what they show) and puts each into its `Mailbox`, where the
newest waits. Nothing is shared between two cameras; a `Watchdog` looks after all of them.
"""

from __future__ import annotations

from edge.capture.mailbox import Mailbox
from edge.capture.opening import RenderFactory, SourceFactory, open_source, source_factory
from edge.capture.reader import Reader
from edge.capture.source import Picture, Source, open_in_turn
from edge.capture.watchdog import Watchdog

__all__ = [
    "Mailbox",
    "Picture",
    "Reader",
    "RenderFactory",
    "Source",
    "SourceFactory",
    "Watchdog",
    "open_in_turn",
    "open_source",
    "source_factory",
]
