"""The number of this run: one more at every start, so that subscribers notice a restart."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.atomic_file import replace_text

log = logging.getLogger(__name__)

_FILE_NAME = "session"
# Subscribers read the number from JSON, where only integers up to 2^53 are exact.
_LARGEST = 2**53


def next_session(state_dir: Path, unix_s: int) -> int:
    """Counts this start in `state_dir`; never raises.

    Where the counter cannot be read or written, the wall clock's seconds `unix_s` stand in for
    it (or the counter, if that is ahead), with a warning.
    """
    path = state_dir / _FILE_NAME
    previous = 0
    try:
        previous = _read(path)
        replace_text(path, f"{previous + 1}\n")
    except (OSError, ValueError) as error:
        session = max(previous + 1, unix_s)
        reason = error.strerror if isinstance(error, OSError) else "holds no session number"
        log.warning(
            "session counter %s: %s; make device.state_dir writable. This run is numbered %d",
            path,
            reason,
            session,
        )
        return _remember(path, session)
    return previous + 1


def _remember(path: Path, session: int) -> int:
    try:
        replace_text(path, f"{session}\n")
    except OSError as error:
        log.debug("session counter %s is not writable: %s", path, error)
    return session


def _read(path: Path) -> int:
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return 0
    if not text.isdigit() or int(text) >= _LARGEST:
        raise ValueError("does not hold a session number")
    return int(text)
