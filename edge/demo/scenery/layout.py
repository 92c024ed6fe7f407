"""Where things lie on one lap of the belt: classes, sizes, overlap, clutter and empty stretches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from edge.demo.scenery.distractors import DISTRACTOR_NAMES
from edge.demo.scenery.parts import CLASS_NAMES, SIZE_RANGE

DISTRACTOR_CLASS_ID = -1


@dataclass(frozen=True)
class Item:
    """One thing on the belt; lengths are in shares of the frame's longer side.

    ``along`` runs with the belt from 0 to the lap's length and ``across`` from 0 to the frame's
    width across the belt. ``class_id`` is -1 for clutter. ``seed`` fixes its looks.
    """

    name: str
    class_id: int
    along: float
    across: float
    size: float
    angle_rad: float
    seed: int


@dataclass(frozen=True)
class LapPlan:
    """What one lap must contain; lengths as in :class:`Item`, ``edge`` is a rail's width."""

    length: float
    width: float
    view_length: float
    edge: float
    parts_per_view: float
    distractors_per_view: float
    overlap: float


def _choose_gaps(plan: LapPlan, rng: np.random.Generator) -> List[Tuple[float, float]]:
    """Return the empty stretches (start, end): about one per 8 views, each longer than a view."""
    views = plan.length / plan.view_length
    count = max(1, round(views / 8.0)) if views >= 4.0 else 0
    pitch = plan.length / max(1, count)
    gaps = []
    for index in range(count):
        length = plan.view_length * float(rng.uniform(1.5, 1.9))
        start = index * pitch + float(rng.uniform(0.2, 0.6)) * (pitch - length)
        gaps.append((start, start + length))
    return gaps


def _is_clear(item: Item, others: List[Item], lap_length: float, closeness: float) -> bool:
    for other in others:
        apart = abs(item.along - other.along)
        apart = min(apart, lap_length - apart)
        reach = closeness * (item.size + other.size) / 2
        if np.hypot(apart, item.across - other.across) < reach:
            return False
    return True


def _draw_item(plan: LapPlan, class_id: int, rng: np.random.Generator) -> Item:
    if class_id == DISTRACTOR_CLASS_ID:
        name = DISTRACTOR_NAMES[int(rng.integers(len(DISTRACTOR_NAMES)))]
        size = float(rng.uniform(0.1, 0.34))
    else:
        name = CLASS_NAMES[class_id]
        smallest, largest = SIZE_RANGE[name]
        size = float(smallest + (largest - smallest) * rng.beta(1.3, 1.9))
    # Most parts lie well on the belt; some hang over its edge and stay cut off all the way.
    inset = size * (0.2 if rng.random() < 0.12 else 0.56) + plan.edge
    inset = min(inset, plan.width * 0.45)
    return Item(
        name=name,
        class_id=class_id,
        along=float(rng.uniform(0.0, plan.length)),
        across=float(rng.uniform(inset, plan.width - inset)),
        size=size,
        angle_rad=float(rng.uniform(0.0, 2 * np.pi)),
        seed=int(rng.integers(2**31)),
    )


def _place(
    plan: LapPlan,
    class_id: int,
    placed: List[Item],
    gaps: List[Tuple[float, float]],
    rng: np.random.Generator,
) -> None:
    """Add one item of a class where it fits; give up when the lap is full."""
    closeness = 0.62 if rng.random() < plan.overlap else 1.0
    for _ in range(40):
        item = _draw_item(plan, class_id, rng)
        margin = item.size * 0.7
        if any(start - margin < item.along < end + margin for start, end in gaps):
            continue
        if _is_clear(item, placed, plan.length, closeness):
            placed.append(item)
            return


def plan_lap(plan: LapPlan, rng: np.random.Generator) -> Tuple[Item, ...]:
    """Return the items of one lap, the lowest first; every class appears in turn."""
    gaps = _choose_gaps(plan, rng)
    views = plan.length / plan.view_length
    part_count = max(1, round(plan.parts_per_view * views))
    clutter_count = round(plan.distractors_per_view * views)
    turns = [index % len(CLASS_NAMES) for index in range(part_count)]
    rng.shuffle(turns)
    queue = turns + [DISTRACTOR_CLASS_ID] * clutter_count
    rng.shuffle(queue)
    placed: List[Item] = []
    for class_id in queue:
        _place(plan, class_id, placed, gaps, rng)
    return tuple(placed)
