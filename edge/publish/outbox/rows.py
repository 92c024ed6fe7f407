"""Entries as rows of a table and back; a row that is not what was written is found out."""

from __future__ import annotations

import zlib
from typing import Any, Optional, Sequence, Tuple

from edge.publish.outbox.age import Stamp
from edge.publish.outbox.entry import DropCause, Entry, Kind
from edge.publish.outbox.ledger import FIRST_TICKET, Head
from edge.publish.outbox.loss import Loss

ENTRY_COLUMNS = (
    "id, kind, topic, payload, boot_id, monotonic_ns, unix_ms, clock_synced, shift_ms,"
    " size_bytes, crc32"
)
HEAD_COLUMNS = "id, kind, size_bytes, boot_id, monotonic_ns, unix_ms, clock_synced"
LOSS_COLUMNS = "cause, kind, count"

_TYPES = (int, str, str, bytes, str, int, int, int, int, int, int)

# Those before never change; times and shift do, when the clock is set.
_FIXED = 6

# A run numbers its entries in the lower bits, so that every row of a run is above all of the
# runs before.
_RUN_SHIFT = 40


def row_id(ticket: int, run: int) -> int:
    """The id of a ticket's row, in the run that gives out tickets now."""
    return ticket if ticket < FIRST_TICKET else (run << _RUN_SHIFT) + ticket - FIRST_TICKET


def ticket_of(row: int, run: int) -> int:
    """The ticket of a row."""
    return row if row >> _RUN_SHIFT != run else FIRST_TICKET + row - (run << _RUN_SHIFT)


def run_of(row: int) -> int:
    """The run that wrote a row."""
    return row >> _RUN_SHIFT


def entry_row(entry: Entry, run: int) -> Tuple[Any, ...]:
    """The values of ENTRY_COLUMNS."""
    stamp = entry.stamp
    fixed = (
        row_id(entry.ticket, run),
        entry.kind.value,
        entry.topic,
        entry.payload,
        stamp.boot_id,
        stamp.monotonic_ns,
    )
    movable = (stamp.unix_ms, int(stamp.is_synced), entry.shift_ms, entry.size_bytes)
    return (*fixed, *movable, _crc32(fixed))


def entry_of(row: Sequence[Any], run: int) -> Optional[Entry]:
    """The entry of a row with ENTRY_COLUMNS; None where it is not what was written."""
    if tuple(map(type, row)) != _TYPES or _crc32(row[:_FIXED]) != row[-1]:
        return None
    row_number, kind, topic, payload, boot_id, monotonic_ns, unix_ms, is_synced, shift_ms = row[:9]
    return Entry(
        ticket=ticket_of(row_number, run),
        kind=Kind(kind),
        topic=topic,
        payload=payload,
        stamp=Stamp(boot_id, monotonic_ns, unix_ms, bool(is_synced)),
        shift_ms=shift_ms,
        is_replayed=True,
    )


def head_of(row: Sequence[Any], run: int) -> Head:
    """The head of a row with HEAD_COLUMNS."""
    return Head(
        ticket_of(row[0], run), Kind(row[1]), row[2], Stamp(row[3], row[4], row[5], bool(row[6]))
    )


def loss_row(loss: Loss) -> Tuple[Any, ...]:
    """The values of LOSS_COLUMNS."""
    return (loss.cause.value, "" if loss.kind is None else loss.kind.value, loss.count)


def loss_of(row: Sequence[Any]) -> Loss:
    """The loss of a row with LOSS_COLUMNS."""
    cause, kind, count = row
    return Loss(DropCause(cause), Kind(kind) if kind else None, count)


def _crc32(fixed: Sequence[Any]) -> int:
    # The payload apart: to print its bytes would take longer than all the rest.
    row_number, kind, topic, payload, boot_id, monotonic_ns = fixed
    rest = f"{row_number} {kind} {topic} {boot_id} {monotonic_ns}"
    return zlib.crc32(rest.encode("utf-8", "surrogatepass"), zlib.crc32(payload))
