"""What the outbox keeps, what it may keep of it, and why something is missing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Mapping

from edge.clock import NS_PER_S
from edge.config.outbox import OutboxConfig
from edge.publish.outbox.age import Stamp

# What a row costs beside its topic and payload: columns, index, and its share of the page.
ROW_BYTES = 128

# MQTT has 65,535 message ids, of which others need some; brokers hold back what is above theirs.
_IN_FLIGHT = 256

_MB = 1_000_000


class Kind(str, Enum):
    """What an entry tells; in this order they make room for each other."""

    DETECTIONS = "detections"
    EVENT = "event"

    @property
    def is_promise(self) -> bool:
        """Whether it is on the disk itself when it is called committed."""
        return self is Kind.EVENT


class DropCause(str, Enum):
    """Why an entry never reached the broker, or may not have."""

    FULL = "full"  # the outbox was as large as it may be
    EXPIRED = "expired"
    MEMORY_FULL = "memory_full"  # the disk did not take it, and memory could hold no more
    TOO_LARGE = "too_large"
    DAMAGED = "damaged"  # the file lost it
    REFUSED = "refused"  # the broker would not have it, and said so
    STOPPED = "stopped"  # the process ended while the disk did not take it


@dataclass(frozen=True)
class Entry:
    """One message; `ticket` orders all of them, whichever run of the process they are of.

    `shift_ms` is what was added to the time of its putting once the clock was set: what the
    payload says of the time wants the same. `is_replayed` tells that it did not go out when it
    was put: it waited, was read back from the disk, or a connection was lost with it.
    """

    ticket: int
    kind: Kind
    topic: str
    payload: bytes
    stamp: Stamp
    shift_ms: int = 0
    is_replayed: bool = False

    @property
    def size_bytes(self) -> int:
        """What it counts towards the limits."""
        return len(self.topic.encode()) + len(self.payload) + ROW_BYTES


@dataclass(frozen=True)
class Limits:
    """What is kept, how much, for how long, how soon it is on the disk, how fast it goes out.

    `memory_bytes` bounds what the disk has not taken yet, or does not take; `windows_ns` are the
    waits for a commit.
    """

    max_bytes: int
    memory_bytes: int
    max_ages_ns: Mapping[Kind, int]
    windows_ns: Mapping[Kind, int]
    drain_per_s: int
    has_detections: bool = False
    in_flight: int = _IN_FLIGHT

    @classmethod
    def of(cls, config: OutboxConfig) -> Limits:
        """The limits that the user has set."""
        return cls(
            max_bytes=config.max_mb * _MB,
            memory_bytes=config.memory_mb * _MB,
            max_ages_ns={
                Kind.EVENT: config.events_max_age_s * NS_PER_S,
                Kind.DETECTIONS: config.detections_max_age_s * NS_PER_S,
            },
            windows_ns={
                Kind.EVENT: int(config.events_commit_s * NS_PER_S),
                Kind.DETECTIONS: int(config.detections_commit_s * NS_PER_S),
            },
            drain_per_s=config.drain_per_s,
            has_detections=config.detections,
        )

    @property
    def longest_window_ns(self) -> int:
        """How long what nobody waits for may wait for its commit."""
        return max(self.windows_ns.values())
