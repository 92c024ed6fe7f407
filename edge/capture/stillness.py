"""Whether a stream has stopped showing anything new."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional

from edge.clock import NS_PER_S

_RECENT = 64
_FEWEST_REPEATS = 3
_FROZEN_NS = 4 * NS_PER_S
# Longer than encoders go without a key frame, which shows a live sensor's noise in another way.
_UNKNOWN_NS = 300 * NS_PER_S
# So many pictures of noise are proof; so many others, one after the other, undo it: 10 s of either.
_PROOF = _DOUBT = 25
# So many new pictures in a row are life, and no key frame with what refines it.
_LIVELY = 5
# A night, and the next one.
_REMEMBERED_NS = 36 * 3600 * NS_PER_S


class Stillness:
    """Finds frozen streams; a static scene before a live sensor must not be taken for one.

    New is a picture whose fingerprint was not among the last 64: an encoder that is fed one frozen
    picture repeats the same key frames. A sensor has noise, so of a live one everything is new,
    all the time, where the noise comes through. At few bits it does not: an encoder skips what has
    not changed much, and the pictures of a live camera are the same, bit by bit, until its next
    key frame. So nothing new may come for
    - 4 s, where noise was everywhere in a picture at rest for 10 s and until now;
    - 5 minutes elsewhere, and for 36 hours after a pause that a key frame has ended.

    Not found: a frozen picture that an encoder always codes in another way, or that the camera
    writes its clock into. Taken for frozen: a picture without any noise, drawn by a computer.
    """

    def __init__(self) -> None:
        self._recent: Deque[int] = deque(maxlen=_RECENT)
        self._new_ns = 0
        self._repeats = 0
        self._new_in_a_row = 0
        self._noisy = 0
        self._doubts = 0
        self._has_paused = False
        self._pauses_until_ns: Optional[int] = None

    def begin(self) -> None:
        """Another stream of the same camera begins, perhaps of other quality; its pauses count."""
        self._recent.clear()
        self._repeats = self._new_in_a_row = self._noisy = self._doubts = 0
        self._has_paused = False

    def observe(self, fingerprint: int, flickers: Optional[bool], now_ns: int) -> bool:
        """Takes a picture's fingerprint and tells whether the stream is frozen.

        `flickers` says whether all of a picture at rest has changed; None where it has moved.
        """
        if fingerprint in self._recent:
            self._repeat(now_ns)
        else:
            self._renew(flickers, now_ns)
        self._recent.append(fingerprint)
        is_certain = self._repeats >= _FEWEST_REPEATS
        return is_certain and now_ns - self._new_ns >= self.patience_ns(now_ns)

    def patience_ns(self, now_ns: int) -> int:
        """How long nothing new may come from this camera."""
        pauses = self._pauses_until_ns is not None and now_ns < self._pauses_until_ns
        return _FROZEN_NS if self._noisy >= _PROOF and not pauses else _UNKNOWN_NS

    def _repeat(self, now_ns: int) -> None:
        self._repeats += 1
        if self._has_paused:
            # It stands still again: what ended the last pause was a key frame, not life.
            self._has_paused = False
            self._pauses_until_ns = now_ns + _REMEMBERED_NS

    def _renew(self, flickers: Optional[bool], now_ns: int) -> None:
        if self._repeats:
            self._has_paused = self._repeats >= _FEWEST_REPEATS
            self._new_in_a_row = 0
            flickers = False
        self._new_in_a_row += 1
        if self._new_in_a_row >= _LIVELY:
            self._has_paused = False
        self._weigh(flickers)
        self._new_ns = now_ns
        self._repeats = 0

    def _weigh(self, flickers: Optional[bool]) -> None:
        if flickers:
            self._noisy += 1
            self._doubts = 0
        elif flickers is not None:
            self._doubts += 1
            if self._doubts >= _DOUBT:
                self._noisy = 0
