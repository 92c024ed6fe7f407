"""Whether a stream has stopped showing anything new."""

from __future__ import annotations

from collections import deque
from typing import Deque

from edge.clock import NS_PER_S

_RECENT = 64
_FEWEST_REPEATS = 3
_FROZEN_NS = 4 * NS_PER_S
# Longer than an encoder goes without a key frame, where it is not told otherwise.
_UNKNOWN_NS = 30 * NS_PER_S
# So many new pictures one after the other show that the sensor's noise comes through.
_LIVELY = 5
_LONGEST_HABIT_NS = 60 * NS_PER_S


class Stillness:
    """Finds frozen streams by their fingerprints: a live sensor has noise, and shows it.

    New is a picture that was not among the last 64. A stream freezes when nothing new comes for
    4 s; pictures that recur count as still, as an encoder that is fed one frozen picture repeats
    the same key frames. What must not be mistaken for it: at few bits an encoder skips all blocks
    of a scene without motion, and a live camera stands still, bit by bit, until its next key
    frame. So
    - a camera that was never lively, and may be such a one, is given 30 s;
    - one whose pauses were ended by a single new picture is given twice the longest of them.

    Not found: a frozen picture that an encoder of constant bit rate keeps refining.
    """

    def __init__(self) -> None:
        self._recent: Deque[int] = deque(maxlen=_RECENT)
        self._new_ns = 0
        self._repeats = 0
        self._new_in_a_row = 0
        self._pause_ns = 0
        self._habit_ns = 0
        self._is_lively = False

    @property
    def patience_ns(self) -> int:
        """How long nothing new may come from this camera."""
        if self._habit_ns:
            return max(_FROZEN_NS, 2 * self._habit_ns)
        return _FROZEN_NS if self._is_lively else _UNKNOWN_NS

    def begin(self) -> None:
        """Another stream of the same camera begins: its habits stay."""
        self._recent.clear()
        self._repeats = self._new_in_a_row = self._pause_ns = 0

    def observe(self, fingerprint: int, now_ns: int) -> bool:
        """Takes a picture's fingerprint and tells whether the stream is frozen."""
        if fingerprint in self._recent:
            self._repeat()
        else:
            self._renew(now_ns)
        self._recent.append(fingerprint)
        is_certain = self._repeats >= _FEWEST_REPEATS
        return is_certain and now_ns - self._new_ns >= self.patience_ns

    def _repeat(self) -> None:
        self._repeats += 1
        # It stands still again: what ended the last pause was a key frame, not life.
        self._habit_ns = max(self._habit_ns, self._pause_ns)
        self._pause_ns = 0

    def _renew(self, now_ns: int) -> None:
        if self._repeats >= _FEWEST_REPEATS:
            self._pause_ns = min(now_ns - self._new_ns, _LONGEST_HABIT_NS)
        self._new_in_a_row = 1 if self._repeats else self._new_in_a_row + 1
        if self._new_in_a_row >= _LIVELY:
            self._is_lively = True
            self._pause_ns = 0
        self._new_ns = now_ns
        self._repeats = 0
