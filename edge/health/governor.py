"""When load is shed, and when it is given back: pure, time comes in as a parameter."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, replace
from typing import Deque, Optional, Tuple

from edge.clock import NS_PER_S
from edge.config.governor import GovernorConfig
from edge.health.ladder import Ladder, Load, restraints, still_due
from edge.health.trend import Trend
from edge.records import GovernorChange, GovernorStatus, Restraints, Step

# Given back only so far below the target: more than one step is worth, so that undoing one does
# not call for it again.
_BAND_C = 5.0
_LATENCY_BAND = 0.8

# The silicon follows its load within seconds, its heat sink within minutes: what it will be soon
# counts, not what it is. No more than so much of it, as a burst of load is no trend.
_AHEAD_S = 30.0
_MOST_AHEAD_C = 2.0
# One burst of work, or a noisy sensor, is no reason: the median of so many readings is.
_READINGS = 5
# Falling faster than this, a step that was taken is still at work.
_FALLING_C_PER_S = -0.02
# So far above the target there is no time to wait for a step's effect.
_URGENT_C = 2.0
_URGENCY = 4

# The latency that is looked at is that of the last 15 to 30 s: later ones tell of the step.
_LATENCY_STEP_NS = 35 * NS_PER_S

_MOST_RELAPSES = 4
_RELAPSE_OF_RECOVERY = 8


@dataclass(frozen=True)
class Targets:
    """What is to be held; what is None is not governed."""

    temp_c: Optional[float] = None
    latency_ms: Optional[float] = None


@dataclass(frozen=True)
class Vitals:
    """How it goes: the hottest sensor, and what 19 of 20 results took of late; None: unknown."""

    temp_c: Optional[float] = None
    latency_ms: Optional[float] = None


@dataclass(frozen=True)
class _Strain:
    """Why something must be shed, and how long the last step has to take effect."""

    reason: str
    settle_ns: int
    is_heat: bool


class Governor:
    """Keeps a stack of steps: takes the next where a target is missed, undoes the last where all
    has been well for long.

    Undoing is slow, and slower each time it proves to be too early: so it comes to rest instead of
    going back and forth.
    """

    def __init__(self, config: GovernorConfig, targets: Targets) -> None:
        self._config = config
        self._targets = targets
        self._steps: Tuple[Step, ...] = ()
        self._last: Optional[GovernorChange] = None
        self._changed_ns: Optional[int] = None
        self._well_since_ns: Optional[int] = None
        self._relapses = 0
        self._is_exhausted = False
        self._trend = Trend()
        self._readings_c: Deque[float] = deque(maxlen=_READINGS)
        self.changes = 0

    @property
    def status(self) -> GovernorStatus:
        """The steps that hold, and the last change."""
        return GovernorStatus(self._steps, self._last, self._is_exhausted)

    @property
    def restraints(self) -> Restraints:
        """What the steps amount to."""
        return restraints(self._steps)

    def configure(self, config: GovernorConfig, targets: Targets) -> None:
        """Follows other bounds and targets from here on."""
        self._config, self._targets = config, targets

    def decide(self, now_ns: int, vitals: Vitals, load: Load) -> bool:
        """Takes or undoes at most one step; True if it did. Called about once a second."""
        self._steps = still_due(self._steps, load.cameras)
        vitals = replace(vitals, temp_c=self._felt_c(vitals.temp_c))
        if vitals.temp_c is not None:
            self._trend.add(now_ns, vitals.temp_c)
        if not self._config.enabled:
            self._is_exhausted = False
            return self._undo(now_ns, "the governor is switched off")
        strain = self._strain(vitals)
        if strain is not None:
            self._well_since_ns = None
            return self._shed(now_ns, strain, vitals, load)
        self._is_exhausted = False
        if not self._is_well(vitals):
            self._well_since_ns = None
            return False
        if self._well_since_ns is None:
            self._well_since_ns = now_ns
        return self._recover(now_ns, vitals)

    # --- shedding -----------------------------------------------------------------------------

    def _strain(self, vitals: Vitals) -> Optional[_Strain]:
        return self._heat(vitals.temp_c) or self._lateness(vitals.latency_ms)

    def _heat(self, temp_c: Optional[float]) -> Optional[_Strain]:
        target_c = self._targets.temp_c
        if temp_c is None or target_c is None:
            return None
        if temp_c < target_c - _MOST_AHEAD_C or self._is_cooling():
            return None
        rise_c = (self._trend.per_s() or 0.0) * _AHEAD_S
        soon_c = temp_c + min(max(rise_c, 0.0), _MOST_AHEAD_C)
        if soon_c < target_c:
            return None
        settle_ns = int(self._config.step_s * NS_PER_S)
        if temp_c >= target_c + _URGENT_C:
            settle_ns //= _URGENCY
        coming = "" if temp_c >= target_c else f" and rises to {soon_c:.1f} °C"
        reason = f"the hottest sensor is at {temp_c:.1f} °C{coming}, the target is {target_c:g} °C"
        return _Strain(reason, settle_ns, is_heat=True)

    def _lateness(self, latency_ms: Optional[float]) -> Optional[_Strain]:
        target_ms = self._targets.latency_ms
        if latency_ms is None or target_ms is None or latency_ms <= target_ms:
            return None
        reason = (
            f"1 of 20 results comes later than {latency_ms:.0f} ms, the target is {target_ms:g} ms"
        )
        return _Strain(reason, _LATENCY_STEP_NS, is_heat=False)

    def _shed(self, now_ns: int, strain: _Strain, vitals: Vitals, load: Load) -> bool:
        if self._changed_ns is not None and now_ns - self._changed_ns < strain.settle_ns:
            return False
        ladder = Ladder(self._config, self._with_room(load, vitals), self._steps)
        step = ladder.next(strain.reason, may_widen=strain.is_heat)
        self._is_exhausted = step is None
        if step is None:
            return False
        if self._is_relapse(now_ns):
            self._relapses = min(self._relapses + 1, _MOST_RELAPSES)
        self._steps = (*self._steps, step)
        self._note(now_ns, GovernorChange(step, is_undone=False, reason=strain.reason))
        return True

    def _is_cooling(self) -> bool:
        slope = self._trend.per_s()
        return slope is not None and slope <= _FALLING_C_PER_S

    def _with_room(self, load: Load, vitals: Vitals) -> Load:
        target_ms = self._targets.latency_ms
        if target_ms is None:
            return load
        room_ms = _LATENCY_BAND * target_ms - (vitals.latency_ms or 0.0)
        return replace(load, window_room_ms=max(room_ms, 0.0))

    def _is_relapse(self, now_ns: int) -> bool:
        """Whether what was undone last is needed again already."""
        if self._last is None or not self._last.is_undone or self._changed_ns is None:
            return False
        early_ns = _RELAPSE_OF_RECOVERY * self._config.recover_s * NS_PER_S
        return now_ns - self._changed_ns < early_ns

    # --- giving back --------------------------------------------------------------------------

    def _is_well(self, vitals: Vitals) -> bool:
        targets = self._targets
        if targets.temp_c is not None and (
            vitals.temp_c is None or vitals.temp_c > targets.temp_c - _BAND_C
        ):
            return False
        if targets.latency_ms is None or vitals.latency_ms is None:
            return True  # without a frame nothing is late
        return vitals.latency_ms <= _LATENCY_BAND * targets.latency_ms

    def _recover(self, now_ns: int, vitals: Vitals) -> bool:
        moments_ns = (self._well_since_ns, self._changed_ns)
        since_ns = max(moment_ns for moment_ns in moments_ns if moment_ns is not None)
        if now_ns - since_ns < self._recovery_ns:
            return False
        return self._undo(now_ns, self._well_words(vitals))

    @property
    def _recovery_ns(self) -> int:
        return int(self._config.recover_s * NS_PER_S) << self._relapses

    def _undo(self, now_ns: int, reason: str) -> bool:
        if not self._steps:
            return False
        if self._last is not None and self._last.is_undone:
            self._relapses = max(self._relapses - 1, 0)  # the one before was not too early
        *kept, step = self._steps
        self._steps = tuple(kept)
        self._note(now_ns, GovernorChange(step, is_undone=True, reason=reason))
        return True

    def _well_words(self, vitals: Vitals) -> str:
        parts = []
        if self._targets.temp_c is not None and vitals.temp_c is not None:
            parts.append(f"{vitals.temp_c:.1f} °C, the target is {self._targets.temp_c:g} °C")
        if self._targets.latency_ms is not None and vitals.latency_ms is not None:
            target_ms = self._targets.latency_ms
            parts.append(f"{vitals.latency_ms:.0f} ms, the target is {target_ms:g} ms")
        for_s = self._recovery_ns // NS_PER_S
        return f"all is well for {for_s} s: {'; '.join(parts) or 'there is nothing to hold'}"

    # --- both ---------------------------------------------------------------------------------

    def _note(self, now_ns: int, change: GovernorChange) -> None:
        self._last, self._changed_ns = change, now_ns
        self.changes += 1
        # The slope is that of the load before.
        self._trend.restart()

    def _felt_c(self, temp_c: Optional[float]) -> Optional[float]:
        if temp_c is None:
            self._readings_c.clear()
            return None
        self._readings_c.append(temp_c)
        return statistics.median(self._readings_c)
