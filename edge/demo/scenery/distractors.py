"""Clutter of a real belt that is no part: leaves, tape, labels, cables, paper, coins, stains."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import cv2
import numpy as np

from edge.demo.scenery.arrays import Plane
from edge.demo.scenery.parts import Relief, bevelled, box_sdf
from edge.demo.scenery.shading import Light, Material, Sprite, shade, unit_grid

_MARGIN = 0.16


def _leaf(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    width = rng.uniform(0.3, 0.5)
    edge = width * (1.0 - x**2) * (1.0 - 0.35 * x)
    vein = np.minimum(np.abs(y), np.abs((x * 5 + np.abs(y) * 4) % 1.0 - 0.5) * 0.4 + 0.03)
    sdf = np.maximum(np.abs(y) - edge, np.abs(x) - 1.0) * 0.8
    tone = 0.75 + 0.5 * np.clip(vein / 0.1, 0, 1)
    relief = Relief(sdf, bevelled(sdf, 0.05, 0.3) + 0.03 * np.sin(x * 4 + y * 3), tone, False)
    green, autumn = (0.12, 0.38, 0.22), (0.10, 0.28, 0.50)
    return relief, Material(green if rng.random() < 0.5 else autumn, 0.1, 10.0, 0.05)


def _tape(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    width = rng.uniform(0.12, 0.25)
    ragged = 0.02 * np.sin(y * 90) + 0.015 * np.sin(y * 37)
    sdf = np.maximum(np.abs(y) - width, np.abs(x) + ragged - 0.95)
    wrinkles = 0.012 * np.sin(x * rng.uniform(6, 16) + y * 4)
    shades = ((0.55, 0.75, 0.82), (0.15, 0.75, 0.85), (0.70, 0.35, 0.15), (0.72, 0.72, 0.70))
    albedo = shades[int(rng.integers(len(shades)))]
    return Relief(sdf, 0.03 + wrinkles, np.ones_like(sdf), False), Material(albedo, 0.1, 12.0, 0.02)


def _label(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    half_h = rng.uniform(0.4, 0.62)
    sdf = box_sdf(x, y, 0.78, half_h, 0.05)
    columns = rng.random(64) < 0.5
    bars = columns[np.clip((x + 0.78) * 41, 0, 63).astype(np.int64)]
    words = rng.random((8, 32)) < 0.7
    row = np.clip((y + half_h) / (2 * half_h) * 8, 0, 7).astype(np.int64)
    text = words[row, np.clip((x + 0.78) * 20, 0, 31).astype(np.int64)]
    gap = ((y + half_h) / (2 * half_h) * 8) % 1.0 > 0.5
    ink = np.where(y > 0, bars & (y < half_h * 0.8), text & gap) & (np.abs(x) < 0.66)
    tone = np.where(ink, 0.15, 1.0)
    return Relief(sdf, np.full_like(sdf, 0.02), tone, False), Material(
        (0.86, 0.88, 0.88), 0.0, 8.0, 0.02
    )


def _cable(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    radius = rng.uniform(0.05, 0.09)
    wave = 0.35 * np.sin(x * rng.uniform(2.0, 4.5) + rng.uniform(0, 6.28))
    distance = np.abs(y - wave) * 0.75
    sdf = np.maximum(distance - radius, np.abs(x) - 0.92)
    height = np.sqrt(np.maximum(radius**2 - distance**2, 0.0)) + radius * 0.5
    shades = ((0.10, 0.10, 0.11), (0.12, 0.12, 0.55), (0.50, 0.25, 0.10), (0.75, 0.75, 0.75))
    return Relief(sdf, height, np.ones_like(sdf), False), Material(
        shades[int(rng.integers(len(shades)))], 0.1, 20.0, 0.02
    )


def _paper(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    theta, r = np.arctan2(y, x), np.hypot(x, y)
    phases = rng.uniform(0, 6.28, 4)
    outline = 0.68 + sum(0.11 / (k + 1) * np.sin((k + 2) * theta + phases[k]) for k in range(4))
    creases = sum(0.05 * np.abs(np.sin(x * 3 * np.cos(p) + y * 3 * np.sin(p) + p)) for p in phases)
    relief = Relief((r - outline) * 0.8, np.asarray(0.03 + creases), np.ones_like(r), False)
    warmth = rng.uniform(0.5, 0.9)
    return relief, Material((warmth * 0.85, warmth * 0.95, warmth), 0.0, 8.0, 0.03)


def _coin(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    r = np.hypot(x, y)
    sdf = r - 0.8
    rim = np.clip((r - 0.68) / 0.03, 0, 1)
    emboss = sum(
        np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
        * np.sin(y * rng.uniform(4, 9) + rng.uniform(0, 6))
        for _ in range(2)
    )
    height = bevelled(sdf, 0.1, 0.05) + 0.03 * rim + 0.02 * np.clip(emboss * 3, -1, 1) * (1 - rim)
    shades = ((0.30, 0.45, 0.62), (0.35, 0.62, 0.72), (0.66, 0.66, 0.66))
    return Relief(sdf, height, np.ones_like(r), False), Material(
        shades[int(rng.integers(len(shades)))], 0.8, 24.0, 0.04
    )


def _rod(x: Plane, y: Plane, rng: np.random.Generator) -> Tuple[Relief, Material]:
    radius = rng.uniform(0.07, 0.13)
    sdf = box_sdf(x, y, 0.85, radius, radius * 0.4)
    height = np.sqrt(np.maximum(radius**2 - y**2, 0.0)) + radius
    return Relief(sdf, height, np.ones_like(x), False), Material(
        (0.58, 0.58, 0.57), 1.0, 40.0, 0.04
    )


_BUILDERS: Dict[str, Callable[[Plane, Plane, np.random.Generator], Tuple[Relief, Material]]] = {
    "leaf": _leaf,
    "tape": _tape,
    "label": _label,
    "cable": _cable,
    "paper": _paper,
    "coin": _coin,
    "rod": _rod,
}

DISTRACTOR_NAMES: Tuple[str, ...] = (*_BUILDERS, "stain")


def _stain(size_px: float, rng: np.random.Generator) -> Sprite:
    """Return an oil stain: it has no height, only a soft darkening of the belt."""
    x, y = unit_grid(size_px, _MARGIN, 0.0)
    theta, r = np.arctan2(y, x), np.hypot(x, y)
    phases = rng.uniform(0, 6.28, 5)
    outline = 0.6 + sum(0.14 / (k + 1) * np.sin((k + 1) * theta + phases[k]) for k in range(5))
    inside = np.clip((outline - r) / 0.12, 0.0, 1.0) * rng.uniform(0.2, 0.5)
    shadow = (cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.2) * 255).astype(np.uint8)
    nothing = np.zeros_like(shadow)
    return Sprite(np.zeros((*shadow.shape, 3), np.uint8), nothing, shadow)


def render_distractor(
    name: str, size_px: float, angle_rad: float, light: Light, rng: np.random.Generator
) -> Sprite:
    """Render one random item of clutter within a disc of ``size_px`` diameter."""
    if name == "stain":
        return _stain(size_px, rng)
    x, y = unit_grid(size_px, _MARGIN, angle_rad)
    relief, material = _BUILDERS[name](x, y, rng)
    return shade(relief, material, light, size_px, rng)
