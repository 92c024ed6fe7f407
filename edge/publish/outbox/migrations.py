"""The outbox's tables, version by version."""

from __future__ import annotations

from typing import Sequence, Tuple

# Each takes a file from the version before to its own number, counted from 1.
MIGRATIONS: Tuple[Sequence[str], ...] = (
    (
        """
        CREATE TABLE entry (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            topic TEXT NOT NULL,
            payload BLOB NOT NULL,
            boot_id TEXT NOT NULL,
            monotonic_ns INTEGER NOT NULL,
            unix_ms INTEGER NOT NULL,
            clock_synced INTEGER NOT NULL,
            shift_ms INTEGER NOT NULL,
            size_bytes INTEGER NOT NULL,
            crc32 INTEGER NOT NULL
        )
        """,
        "CREATE INDEX entry_by_kind ON entry (kind)",
        """
        CREATE TABLE loss (
            cause TEXT NOT NULL,
            kind TEXT NOT NULL,
            count INTEGER NOT NULL,
            PRIMARY KEY (cause, kind)
        )
        """,
        "CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    ),
)
