"""When something becomes an alert, and when it is over: pure, time comes in as a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple

from edge.clock import NS_PER_S
from edge.records import Alert, AlertSeverity


@dataclass(frozen=True)
class Rule:
    """Raised when a value has been at or beyond `raise_at` for `hold_s`, cleared when it has been
    at or on the other side of `clear_at` for as long. Which side is bad follows from the two.
    """

    id: str
    severity: AlertSeverity
    raise_at: float
    clear_at: float
    hold_s: float

    def __post_init__(self) -> None:
        if self.raise_at == self.clear_at:
            raise ValueError(f"alert {self.id}: without a band it would flap at {self.raise_at:g}")

    def is_bad(self, value: float) -> bool:
        """Whether it counts towards raising."""
        if self.raise_at > self.clear_at:
            return value >= self.raise_at
        return value <= self.raise_at

    def is_good(self, value: float) -> bool:
        """Whether it counts towards clearing."""
        if self.raise_at > self.clear_at:
            return value <= self.clear_at
        return value >= self.clear_at


@dataclass(frozen=True)
class Observation:
    """What a rule is held against now; `value` is None while it is unknown.

    `reason` says it in words, and is read only where the alert is raised.
    """

    rule: Rule
    value: Optional[float]
    reason: str


@dataclass(frozen=True)
class News:
    """What changed: alerts that are to be told, and the ids of those that are over."""

    raised: Tuple[Alert, ...] = ()
    cleared: Tuple[str, ...] = ()


class AlertBook:
    """Which alerts stand.

    What is unknown changes nothing; what is not observed at all any more (a camera that was
    removed, an alert that was switched off) is cleared.
    """

    def __init__(self) -> None:
        self._standing: Dict[str, Alert] = {}
        # Since when each id has been on the other side than it is told to be.
        self._turning_ns: Dict[str, int] = {}

    @property
    def standing(self) -> Tuple[Alert, ...]:
        """Those that stand now, the oldest first."""
        return tuple(self._standing.values())

    def look(self, now_ns: int, unix_ms: int, observations: Iterable[Observation]) -> News:
        """Takes what is observed now; gives what changed."""
        raised: List[Alert] = []
        cleared: List[str] = []
        observed = set()
        for observation in observations:
            rule_id = observation.rule.id
            observed.add(rule_id)
            if not self._has_turned(now_ns, observation):
                continue
            if rule_id in self._standing:
                cleared.append(rule_id)
                del self._standing[rule_id]
            else:
                raised.append(_alert(observation, unix_ms))
                self._standing[rule_id] = raised[-1]
        gone = [rule_id for rule_id in self._standing if rule_id not in observed]
        for rule_id in gone:
            del self._standing[rule_id]
        for rule_id in [rule_id for rule_id in self._turning_ns if rule_id not in observed]:
            del self._turning_ns[rule_id]
        return News(tuple(raised), (*cleared, *gone))

    def _has_turned(self, now_ns: int, observation: Observation) -> bool:
        rule, value = observation.rule, observation.value
        if value is None:
            return False
        is_turning = rule.is_good(value) if rule.id in self._standing else rule.is_bad(value)
        if not is_turning:
            self._turning_ns.pop(rule.id, None)
            return False
        since_ns = self._turning_ns.setdefault(rule.id, now_ns)
        if now_ns - since_ns < rule.hold_s * NS_PER_S:
            return False
        del self._turning_ns[rule.id]
        return True


def _alert(observation: Observation, unix_ms: int) -> Alert:
    rule = observation.rule
    return Alert(
        rule.id, rule.severity, observation.reason, unix_ms, observation.value, rule.raise_at
    )
