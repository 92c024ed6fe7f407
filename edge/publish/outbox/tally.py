"""How much the outbox holds, beside its file: what a damaged file lost is known by it."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Dict, List, Optional

from edge.publish.outbox.entry import Kind

_WIDTH = 512


class Tally:
    """Rows written ever and rows held now, by kind, as of the last commit.

    It is written in place and never forced to the disk: one page that the kernel writes when it
    likes. After a power cut it may be older than the outbox, and then tells of no loss.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, written: Dict[Kind, int], held: Dict[Kind, int]) -> None:
        """Replaces the numbers; raises OSError."""
        text = json.dumps([_by_name(written), _by_name(held)], separators=(",", ":"))
        line = f"{zlib.crc32(text.encode()):08x} {text}".ljust(_WIDTH - 1) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, line.encode(), 0)
        finally:
            os.close(descriptor)

    def lost(self, written: Dict[Kind, int]) -> Optional[Dict[Kind, int]]:
        """How many rows, at most, a file lacks that knows of so many written ever.

        None where there are no numbers to go by.
        """
        numbers = self._read()
        if numbers is None:
            return None
        lost = {}
        for kind in Kind:
            ever, held = (part.get(kind.value, 0) for part in numbers)
            lost[kind] = max(0, min(ever - written.get(kind, 0), held))
        return lost

    def held(self) -> Optional[Dict[Kind, int]]:
        """How many rows the file held; None where there are no numbers to go by."""
        numbers = self._read()
        return None if numbers is None else {kind: numbers[1].get(kind.value, 0) for kind in Kind}

    def written(self) -> Dict[Kind, int]:
        """How many rows were ever written; 0 where there are no numbers to go by."""
        numbers = self._read()
        return {kind: numbers[0].get(kind.value, 0) if numbers else 0 for kind in Kind}

    def _read(self) -> Optional[List[Dict[str, int]]]:
        try:
            checksum, _, text = self._path.read_text("utf-8").strip().partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        if checksum != f"{zlib.crc32(text.encode()):08x}":
            return None
        numbers: List[Dict[str, int]] = json.loads(text)
        return numbers


def _by_name(counts: Dict[Kind, int]) -> Dict[str, int]:
    return {kind.value: count for kind, count in counts.items()}
