"""What was lost: how many, of what kind, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Optional, Tuple

from edge.publish.outbox.entry import DropCause, Kind


@dataclass(frozen=True)
class Loss:
    """Entries lost for one cause; `kind` is None where the file that held them cannot tell."""

    cause: DropCause
    kind: Optional[Kind]
    count: int


class LossBook:
    """All that was lost since the outbox's file was made; pure.

    It only grows, so that nobody need be told of a loss at once or exactly once.
    """

    def __init__(self) -> None:
        self._losses: Dict[Tuple[DropCause, Optional[Kind]], Loss] = {}
        self._of_this_run: Dict[DropCause, int] = dict.fromkeys(DropCause, 0)
        self.is_dirty = False

    def add(self, loss: Loss) -> None:
        """Counts a loss of this run."""
        self._of_this_run[loss.cause] += loss.count
        self._sum_up(loss)
        self.is_dirty = True

    def recall(self, losses: Iterable[Loss]) -> None:
        """Adds what runs before this one have lost."""
        for loss in losses:
            self._sum_up(loss)

    def all(self) -> List[Loss]:
        """One for each cause and kind of which anything was lost."""
        return list(self._losses.values())

    def of_this_run(self) -> Dict[DropCause, int]:
        """How many this run has lost or found missing, for every cause."""
        return dict(self._of_this_run)

    def _sum_up(self, loss: Loss) -> None:
        key = (loss.cause, loss.kind)
        known = self._losses.get(key)
        count = loss.count + (known.count if known else 0)
        self._losses[key] = replace(loss, count=count)
