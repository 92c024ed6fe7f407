"""What TensorRT says while it works: its reasons for a failure come as log lines only."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional

log = logging.getLogger(__name__)

_KEPT_ERRORS = 4
_MAX_CHARACTERS = 400
_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemory",
    "requested amount of gpu memory",
    "cudaerrormemoryallocation",
    "allocation failed",
    "insufficient memory",
)
_LEVELS: Dict[str, int] = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
}
# Said of every network with int64 constants, or at every start: no news to anybody.
_USUAL = ("INT64 weights", "CUDA lazy loading", "Missing scale and zero-point")

OnLine = Callable[[str], None]
"""Told each line of any severity, in whichever thread TensorRT says it; must return at once."""


class TensorRtLog:
    """Keeps the last errors and hands lines on to `logging`; a warning is no news to a user."""

    def __init__(self, on_line: Optional[OnLine] = None) -> None:
        self._errors: Deque[str] = deque(maxlen=_KEPT_ERRORS)
        self._last_warning = ""
        self._on_line = on_line

    def hear(self, severity: str, text: str) -> None:
        """Takes one line."""
        if self._on_line is not None:
            self._on_line(text)
        level = _LEVELS.get(severity)
        if level is None:
            return
        if level == logging.ERROR:
            # It may be part of an expected failure: whoever called raises it, or asks for it.
            self._errors.append(_in_short(text))
            level = logging.DEBUG
        elif any(usual in text for usual in _USUAL):
            level = logging.DEBUG
        elif level == logging.WARNING:
            self._last_warning = _in_short(text)
        log.log(level, "TensorRT: %s", text)

    @property
    def reason(self) -> str:
        """The last errors in one line, else the last warning: 8.5 says a missing GPU as such."""
        return "; ".join(self._errors) or self._last_warning or "it gives no reason"

    @property
    def is_out_of_memory(self) -> bool:
        """Tells whether the last errors are about memory."""
        text = self.reason.lower()
        return any(sign in text for sign in _OUT_OF_MEMORY)

    def forget(self) -> None:
        """Forgets the errors of what was done before."""
        self._errors.clear()
        self._last_warning = ""


def as_logger(trt: Any, heard: TensorRtLog) -> Any:
    """A `trt.ILogger` that tells `heard`; it must outlive all that is made with it."""

    def initialise(self: Any) -> None:
        trt.ILogger.__init__(self)

    def hear(self: Any, severity: Any, text: str) -> None:
        heard.hear(severity.name, text)

    logger_class = type("EdgeLogger", (trt.ILogger,), {"__init__": initialise, "log": hear})
    return logger_class()


def _in_short(text: str) -> str:
    return " ".join(text.split())[:_MAX_CHARACTERS]
