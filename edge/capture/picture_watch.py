"""Whether the picture of a camera that delivers is worth looking at."""

from __future__ import annotations

from typing import Optional

import numpy as np
from numpy.typing import NDArray

from edge.capture.picture_sample import PictureSample, detail, flickers, sample
from edge.capture.stillness import Stillness
from edge.clock import NS_PER_MS, NS_PER_S
from edge.geometry import Image
from edge.records import PictureState

_SAMPLE_NS = 400 * NS_PER_MS

_BLACK_BELOW, _BLACK_UNTIL = 16.0, 22.0
_BLACK_NS = 2 * NS_PER_S

# Of the detail that the camera usually shows.
_COVERED_BELOW, _COVERED_UNTIL = 0.25, 0.4
_COVERED_NS = 3 * NS_PER_S
# Less than this is a plain wall: nobody could tell it from a cover.
_LEAST_DETAIL = 0.04
_FIRST_SAMPLES = 25
# 2 minutes at 2.5 samples a second: slower than a hand, faster than the sun.
_FOLLOW = 1 / 300


class PictureWatch:
    """Looks at a picture of one camera 2.5 times a second, and judges within 5 s if it can.

    `is_live` is False for recordings, which may stand still and change the scene as they like:
    they are black at most. What a camera usually looks like is kept across `begin`.
    """

    def __init__(self, *, is_live: bool) -> None:
        self._is_live = is_live
        self._black = Lasting(_BLACK_NS)
        self._stillness = Stillness()
        self._cover = Cover()
        self._sampled_ns: Optional[int] = None
        self._before: Optional[PictureSample] = None
        self._state = PictureState.OK

    def begin(self) -> None:
        """Another stream of the same camera begins."""
        self._black = Lasting(_BLACK_NS)
        self._stillness.begin()
        self._cover.begin()
        self._sampled_ns = None
        self._before = None
        self._state = PictureState.OK

    def observe(self, image: Image, now_ns: int) -> PictureState:
        """Judges the camera by its newest picture, uint8 [h, w, 3]."""
        if self._sampled_ns is None or now_ns - self._sampled_ns >= _SAMPLE_NS:
            self._sampled_ns = now_ns
            self._state = self._judge(sample(image), now_ns)
        return self._state

    def _judge(self, seen: PictureSample, now_ns: int) -> PictureState:
        # All are asked each time: each keeps a history of its own.
        limit = _BLACK_UNTIL if self._black.is_on else _BLACK_BELOW
        is_black = self._black.observe(seen.brightest < limit, now_ns)
        is_still = self._is_live and self._is_still(seen, now_ns)
        is_covered = self._is_live and self._cover.observe(seen.cells, now_ns)
        if is_black:
            return PictureState.BLACK
        if is_still and seen.shows_noise:
            return PictureState.FROZEN
        return PictureState.COVERED if is_covered else PictureState.OK

    def _is_still(self, seen: PictureSample, now_ns: int) -> bool:
        has_noise = None if self._before is None else flickers(self._before, seen)
        self._before = seen
        return self._stillness.observe(seen.fingerprint, has_noise, now_ns)


class Lasting:
    """A condition that counts only once it has lasted for `after_ns`, and ends at once."""

    def __init__(self, after_ns: int) -> None:
        self._after_ns = after_ns
        self._since_ns: Optional[int] = None
        self.is_on = False

    def observe(self, is_met: bool, now_ns: int) -> bool:
        """Takes the condition's state at `now_ns`, and tells whether it counts."""
        if not is_met:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = now_ns
        since_ns = self._since_ns
        self.is_on = since_ns is not None and now_ns - since_ns >= self._after_ns
        return self.is_on


class Cover:
    """Notices that a picture has lost the detail which the camera usually shows.

    A camera that looked at a cover from its start is not found out, and one that is turned to
    a plain wall counts as covered until it sees something again.
    """

    def __init__(self) -> None:
        self._usual = 0.0
        self._samples = 0
        self._view = np.zeros((0, 0), np.float32)
        self._lost = Lasting(_COVERED_NS)

    def begin(self) -> None:
        """Forgets what lasted, not what is usual."""
        self._lost = Lasting(_COVERED_NS)

    def observe(self, cells: NDArray[np.float32], now_ns: int) -> bool:
        """Takes a picture's cells and tells whether the lens is covered."""
        # The mean with what came before: a sensor in the dark shows mostly noise.
        is_other_size = cells.shape != self._view.shape
        self._view = cells if is_other_size else (self._view + cells) * np.float32(0.5)
        seen = detail(self._view)
        if seen is None:
            return self._lost.observe(False, now_ns)
        limit = _COVERED_UNTIL if self._lost.is_on else _COVERED_BELOW
        can_tell = self._samples >= _FIRST_SAMPLES and self._usual >= _LEAST_DETAIL
        is_lost = can_tell and seen < limit * self._usual
        if not is_lost:
            self._learn(seen)
        return self._lost.observe(is_lost, now_ns)

    def _learn(self, seen: float) -> None:
        self._samples += 1
        share = max(1 / self._samples, _FOLLOW)
        self._usual += (seen - self._usual) * share
