"""Height fields of the industrial parts, evaluated on a rotated grid of unit coordinates.

A part lies in the disc of radius 1. Each builder returns a signed distance (negative inside, unit
coordinates), a height (same unit, 0 on the belt) and a turned flag: a lathe leaves concentric
marks, and their highlight is what makes a ring read as metal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Tuple

import numpy as np

from edge.demo.scenery.arrays import Plane

CLASS_NAMES: Tuple[str, ...] = (
    "bolt",
    "nut",
    "washer",
    "gear",
    "bearing",
    "bracket",
    "gear_broken",
)


@dataclass(frozen=True)
class Relief:
    """One part as a height field over its grid.

    ``sdf`` and ``height`` are float32 [H, W] in unit coordinates; ``tone`` float32 [H, W]
    multiplies the material's albedo (seals and grooves are darker than the ring around them).
    """

    sdf: Plane
    height: Plane
    tone: Plane
    is_turned: bool


def bevelled(sdf: Plane, height: float, bevel: float) -> Plane:
    """Return a plateau of the given height whose rim is rounded over ``bevel``."""
    depth = np.clip(-sdf / bevel, 0.0, 1.0)
    return np.asarray(height * np.sqrt(1.0 - (1.0 - depth) ** 2), dtype=np.float32)


def box_sdf(x: Plane, y: Plane, half_w: float, half_h: float, corner: float) -> Plane:
    """Return the signed distance to a rounded rectangle centred on the origin."""
    qx, qy = np.abs(x) - (half_w - corner), np.abs(y) - (half_h - corner)
    outside = np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0))
    return np.asarray(outside + np.minimum(np.maximum(qx, qy), 0.0) - corner)


def hexagon_sdf(x: Plane, y: Plane, apothem: float) -> Plane:
    """Return the signed distance (exact on the faces) to a hexagon with flats facing +-y."""
    slanted = np.abs(x) * 0.8660254 + np.abs(y) * 0.5
    return np.asarray(np.maximum(slanted, np.abs(y)) - apothem)


def _bolt(x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    shank_r, head_len = rng.uniform(0.15, 0.21), rng.uniform(0.26, 0.36)
    head_r = shank_r * rng.uniform(1.75, 2.05)
    seam = -1.0 + head_len
    thread_start = seam + rng.uniform(0.0, 0.5)
    pitch = rng.uniform(0.085, 0.12)
    phase = ((x + 0.25 * pitch * y / shank_r) / pitch) % 1.0
    groove = np.where(x > thread_start, np.abs(phase - 0.5) * 2.0, 0.0) * shank_r * 0.24
    # The tip is chamfered so that the end of the thread reads as an end, not as a cut-off image.
    taper = np.maximum(x - 0.93, 0.0) * 0.9
    radius = shank_r - groove * 0.55 - taper
    shank_sdf = np.maximum(np.abs(y) - radius, np.maximum(x - 1.0, seam - 0.02 - x))
    shank_h = np.sqrt(np.maximum((shank_r - groove - taper) ** 2 - y**2, 0.0)) + shank_r
    middle = seam - head_len / 2
    head_sdf = box_sdf(x - middle, y, head_len / 2, head_r, 0.05)
    if rng.random() < 0.7:
        profile = np.minimum(0.866 * head_r, (head_r - np.abs(y)) * 1.732)
    else:
        knurl = 0.012 * np.cos(np.arcsin(np.clip(y / head_r, -1.0, 1.0)) * 30.0)
        profile = np.sqrt(np.maximum(head_r**2 - y**2, 0.0)) + knurl
    chamfer = np.clip((head_len / 2 - np.abs(x - middle)) / 0.07, 0.0, 1.0)
    head_h = (np.maximum(profile, 0.0) * (0.82 + 0.18 * chamfer)) + head_r
    in_head = head_sdf < 0
    sdf = np.minimum(shank_sdf, head_sdf)
    tone = np.where(in_head, 1.0, 1.0 - 0.55 * groove / (shank_r * 0.24))
    return Relief(sdf, np.where(in_head, head_h, shank_h), tone, is_turned=False)


def _nut(x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    r = np.hypot(x, y)
    bore = rng.uniform(0.44, 0.54)
    outer = hexagon_sdf(x, y, 0.866)
    sdf = np.maximum(outer, bore - r)
    cone = np.clip((0.97 - r) / 0.2, 0.0, 1.0) * 0.16
    height = bevelled(sdf, 0.34, 0.05) + cone
    sink = np.clip((r - bore) / 0.12, 0.0, 1.0)
    height = height - (1.0 - sink) * 0.16
    thread = 0.5 + 0.5 * np.cos(r * 2 * np.pi / 0.05)
    tone = np.where(r < bore + 0.1, 0.45 + 0.35 * thread, 1.0)
    return Relief(sdf, height, tone, is_turned=True)


def _washer(x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    r = np.hypot(x, y)
    bore = rng.uniform(0.42, 0.62)
    sdf = np.maximum(r - 1.0, bore - r)
    if rng.random() < 0.2:
        slit = np.maximum(np.abs(y + 0.35 * (x - 0.8)) - 0.05, -x)
        sdf = np.maximum(sdf, -slit)
    return Relief(sdf, bevelled(sdf, 0.1, 0.06), np.ones_like(r), is_turned=True)


def _tooth_profile(theta: Plane, teeth: int, root: float) -> Plane:
    """Return the outline radius [H, W] of a trapezoid-toothed wheel whose tips lie at radius 1."""
    wave = np.abs(((theta * teeth / (2 * np.pi)) % 1.0) - 0.5) * 2.0
    return np.asarray(root + (1.0 - root) * np.clip((wave - 0.3) / 0.26, 0.0, 1.0))


def _fracture(x: Plane, y: Plane, teeth: int, rng: np.random.Generator) -> Plane:
    """Return the signed distance of the piece that broke away: at least two teeth and rim."""
    direction = rng.uniform(0.0, 2 * np.pi)
    span = max(rng.uniform(0.95, 1.7), 2.6 * 2 * np.pi / teeth)
    bite = rng.uniform(0.5, 0.66)
    theta = (np.arctan2(y, x) - direction + np.pi) % (2 * np.pi) - np.pi
    phases = rng.uniform(0, 2 * np.pi, 3)
    rough = sum(
        a * np.sin(f * theta + p) for a, f, p in zip((0.05, 0.03, 0.02), (7, 17, 31), phases)
    )
    edge = bite + rough + 0.5 * np.clip(np.abs(theta) / (span / 2), 0.0, 2.0) ** 3
    return np.asarray(edge - np.hypot(x, y))


def _gear(x: Plane, y: Plane, rng: np.random.Generator, is_broken: bool = False) -> Relief:
    r, theta = np.hypot(x, y), np.arctan2(y, x)
    teeth, root = int(rng.integers(10, 17)), rng.uniform(0.76, 0.82)
    bore, hub, rim = rng.uniform(0.14, 0.22), rng.uniform(0.34, 0.42), root - 0.13
    sdf = np.maximum((r - _tooth_profile(theta, teeth, root)) * 0.8, bore - r)
    keyway = box_sdf(x - bore, y, 0.09, 0.06, 0.01)
    sdf = np.maximum(sdf, -keyway)
    web_holes = int(rng.choice([0, 0, 4, 5, 6]))
    if web_holes:
        sector = (theta + np.pi / web_holes) % (2 * np.pi / web_holes) - np.pi / web_holes
        centre = (hub + rim) / 2
        hole = np.hypot(r * np.cos(sector) - centre, r * np.sin(sector)) - (rim - hub) * 0.4
        sdf = np.maximum(sdf, -hole)
    recess = np.clip((r - hub) / 0.04, 0, 1) * np.clip((rim - r) / 0.04, 0, 1)
    broken_away = _fracture(x, y, teeth, rng) if is_broken else None
    height = bevelled(sdf, 0.3, 0.05) - recess * rng.uniform(0.08, 0.2)
    tone = 1.0 - 0.18 * recess
    if broken_away is not None:
        torn = np.clip(1.0 - broken_away / 0.06, 0.0, 1.0)
        sdf = np.maximum(sdf, -broken_away)
        height, tone = height - 0.14 * torn, tone * (1.0 - 0.45 * torn)
    return Relief(sdf, height, tone, is_turned=True)


def _gear_broken(x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    return _gear(x, y, rng, is_broken=True)


def _bearing(x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    r, theta = np.hypot(x, y), np.arctan2(y, x)
    bore = rng.uniform(0.3, 0.4)
    inner, outer = bore + rng.uniform(0.13, 0.17), rng.uniform(0.8, 0.85)
    sdf = np.maximum(r - 1.0, bore - r)
    ring_sdf = np.maximum(sdf, np.minimum(outer - r, r - inner))
    height = bevelled(ring_sdf, 0.32, 0.05)
    tone = np.ones_like(r)
    race = (r > inner) & (r < outer)
    if rng.random() < 0.65:
        count, centre = int(rng.integers(7, 11)), (inner + outer) / 2
        ball_r = min((outer - inner) * 0.46, np.pi * centre / count * 0.86)
        sector = (theta + np.pi / count) % (2 * np.pi / count) - np.pi / count
        distance = np.hypot(r * np.cos(sector) - centre, r * np.sin(sector))
        ball = np.sqrt(np.maximum(ball_r**2 - distance**2, 0.0))
        height = np.where(race, 0.12 + ball * 1.1, height)
        tone = np.where(race, np.where(ball > 0, 1.15, 0.28), tone)
    else:
        dent = np.abs((r - inner) / (outer - inner) - 0.5) * 2
        height = np.where(race, 0.25 - 0.05 * dent, height)
        tone = np.where(race, rng.uniform(0.22, 0.5), tone)
    return Relief(sdf, height, tone, is_turned=True)


def _bracket(x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    width = rng.uniform(0.4, 0.55)
    reach_x, reach_y = 1.0, rng.uniform(0.6, 0.88)
    # u and v run along the legs, from the outer corner.
    u, v = x + reach_x * 0.75, y + reach_y * 0.75
    long_leg = box_sdf(u - reach_x * 0.75, v - width / 2, reach_x * 0.75, width / 2, 0.08)
    short_leg = box_sdf(u - width / 2, v - reach_y * 0.75, width / 2, reach_y * 0.75, 0.08)
    sdf = np.minimum(long_leg, short_leg)
    hole_r = width * rng.uniform(0.2, 0.27)
    slot = hole_r * rng.choice([0.0, 0.9])
    for along in (1.5 * reach_x - width * 0.5, 1.5 * reach_x - width * 1.4):
        from_slot = np.hypot(np.maximum(np.abs(u - along) - slot, 0), v - width / 2)
        sdf = np.maximum(sdf, hole_r - from_slot)
    from_hole = np.hypot(u - width / 2, v - (1.5 * reach_y - width * 0.5))
    sdf = np.maximum(sdf, hole_r - from_hole)
    height = bevelled(sdf, 0.12, 0.05)
    if rng.random() < 0.5:
        height = height + np.clip((u - width) / 0.08, -1.0, 0.0) * -0.14 * (sdf < 0)
    return Relief(sdf, height, np.ones_like(x), is_turned=False)


_BUILDERS: Dict[str, Callable[[Plane, Plane, np.random.Generator], Relief]] = {
    "bolt": _bolt,
    "nut": _nut,
    "washer": _washer,
    "gear": _gear,
    "bearing": _bearing,
    "bracket": _bracket,
    "gear_broken": _gear_broken,
}

#: Longer side of each class as a share of the frame's longer side (smallest, largest). Gears start
#: larger: below 45 px of a 320 px image a missing tooth is no longer a visible defect.
SIZE_RANGE: Dict[str, Tuple[float, float]] = {
    "bolt": (0.13, 0.34),
    "nut": (0.09, 0.22),
    "washer": (0.09, 0.24),
    "gear": (0.15, 0.33),
    "bearing": (0.12, 0.30),
    "bracket": (0.16, 0.36),
    "gear_broken": (0.15, 0.33),
}


def build_relief(class_name: str, x: Plane, y: Plane, rng: np.random.Generator) -> Relief:
    """Return the height field of one random part of a class on the unit grid ``x``, ``y``."""
    return _BUILDERS[class_name](x, y, rng)
