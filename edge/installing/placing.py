"""Puts files in place, and takes them away again: what was there before comes back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from edge.atomic_file import replace_bytes, replace_text
from edge.errors import ConfigError
from edge.installing.pieces import Piece

RECORD = Path("usr/local/lib/edge/installed.json")
_BEFORE = ".before-edge"


class Deed(Enum):
    """What is done to a file; the value says it in words."""

    PUT = "put"
    REPLACED = "replaced"
    SET_ASIDE = f"replaced; the one before is kept with the ending {_BEFORE}"
    AS_IT_IS = "as it is"
    KEPT = "kept: it is yours"
    CHANGED = "kept: you changed it; remove it, and install again, to have the new one"
    REMOVED = "removed"
    RESTORED = "removed; the one before is back"
    LEFT = "left: it was changed since"
    GONE = "gone already"


_WRITING = (Deed.PUT, Deed.REPLACED, Deed.SET_ASIDE)


@dataclass(frozen=True)
class Step:
    """One file, by its place on the machine, and what is done to it."""

    path: Path
    deed: Deed


class Placement:
    """The files under `root`, and the record of those that were put there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hashes, self._folders = _read_record(root / RECORD)

    def install(self, wanted: Sequence[Piece], *, is_dry: bool) -> Iterator[Step]:
        """Puts the files in place, one after the other; what is there already stays.

        OSError passes. The record is written first: what a power cut leaves can be undone.
        """
        deeds = [(piece, self._deed(piece)) for piece in wanted]
        written = [] if is_dry else [piece for piece, deed in deeds if deed in _WRITING]
        for piece in written:
            self._remember(piece)
        if written:
            self._write_record()
        for piece, deed in deeds:
            if not is_dry:
                self._place(piece, deed)
            yield Step(Path("/") / piece.path, deed)
        for piece in written:
            self._hashes[str(piece.path)] = [_hash(piece.content)]
        if written:
            self._write_record()

    def undo(self, *, is_dry: bool) -> Iterator[Step]:
        """Takes away what `install` put there and nobody has changed since."""
        for name, hashes in sorted(self._hashes.items()):
            path = self._root / name
            deed = self._undoing(path, hashes)
            if not is_dry:
                _take_away(path, deed)
            yield Step(Path("/") / name, deed)
        if is_dry:
            return
        (self._root / RECORD).unlink(missing_ok=True)
        for folder in sorted(self._folders, reverse=True):
            _remove_if_empty(self._root / folder)

    def _deed(self, piece: Piece) -> Deed:
        path = self._root / piece.path
        content = _content(path)
        if content is None:
            return Deed.PUT
        if piece.is_users:
            return Deed.KEPT
        if content == piece.content:
            return Deed.AS_IT_IS
        recorded = self._hashes.get(str(piece.path))
        if recorded is None:
            return Deed.SET_ASIDE
        return Deed.REPLACED if _hash(content) in recorded else Deed.CHANGED

    def _undoing(self, path: Path, hashes: Sequence[str]) -> Deed:
        content = _content(path)
        if content is None:
            return Deed.GONE
        if _hash(content) not in hashes:
            return Deed.LEFT
        return Deed.RESTORED if _aside(path).exists() else Deed.REMOVED

    def _place(self, piece: Piece, deed: Deed) -> None:
        path = self._root / piece.path
        if deed is Deed.SET_ASIDE:
            path.rename(_aside(path))
        if deed in _WRITING:
            replace_bytes(path, piece.content)
            path.chmod(piece.mode)

    def _remember(self, piece: Piece) -> None:
        # The one before, too, until this one is in its place.
        self._hashes.setdefault(str(piece.path), []).append(_hash(piece.content))
        self._folders.update(
            str(folder)
            for folder in (*piece.path.parents, *RECORD.parents)
            if not (self._root / folder).exists()
        )

    def _write_record(self) -> None:
        record = {"files": self._hashes, "folders": sorted(self._folders)}
        replace_text(self._root / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _read_record(path: Path) -> Tuple[Dict[str, List[str]], Set[str]]:
    try:
        record: Dict[str, Any] = json.loads(path.read_text("utf-8"))
        return dict(record["files"]), set(record["folders"])
    except FileNotFoundError:
        return {}, set()
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged, so nobody knows what was installed: remove it to install anew"
        ) from error


def _content(path: Path) -> Optional[bytes]:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _aside(path: Path) -> Path:
    return path.with_name(path.name + _BEFORE)


def _take_away(path: Path, deed: Deed) -> None:
    if deed is Deed.RESTORED:
        _aside(path).replace(path)
    elif deed is Deed.REMOVED:
        path.unlink()


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
