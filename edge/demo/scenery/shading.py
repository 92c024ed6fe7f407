"""Turns a height field into a lit sprite: albedo, bevels, highlights and a cast shadow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.demo.scenery.arrays import Image, Plane
from edge.demo.scenery.parts import Relief, build_relief

#: Shadow and blur reach this share of the part's size beyond its outline.
_MARGIN = 0.16


@dataclass(frozen=True)
class Light:
    """A distant lamp above the belt: direction in image axes, share of diffuse light, softness."""

    azimuth_rad: float
    elevation_rad: float
    ambient: float
    shadow_strength: float
    shadow_softness: float

    @property
    def toward_xyz(self) -> Tuple[float, float, float]:
        """Return the unit vector from the belt to the lamp."""
        flat = math.cos(self.elevation_rad)
        return (
            flat * math.cos(self.azimuth_rad),
            flat * math.sin(self.azimuth_rad),
            math.sin(self.elevation_rad),
        )


@dataclass(frozen=True)
class Material:
    """What a surface is made of: albedo BGR in 0..1, metalness, highlight power, grain."""

    albedo_bgr: Tuple[float, float, float]
    metalness: float
    gloss: float
    grain: float


@dataclass(frozen=True)
class Sprite:
    """A rendered item: ``colour_bgr`` uint8 [H, W, 3], ``alpha`` and ``shadow`` uint8 [H, W].

    The item's centre is the centre of the image. ``mask`` is where the item covers more than
    half of a pixel; it defines the ground truth.
    """

    colour_bgr: Image
    alpha: Image
    shadow: Image

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return bool [H, W]: the pixels that belong to the item."""
        return self.alpha > 127


_FINISHES: Tuple[Material, ...] = (
    Material((0.60, 0.60, 0.59), 1.0, 40.0, 0.06),  # bright steel
    Material((0.46, 0.45, 0.44), 0.9, 18.0, 0.10),  # dull steel
    Material((0.66, 0.69, 0.68), 0.8, 24.0, 0.05),  # zinc
    Material((0.34, 0.60, 0.70), 0.9, 26.0, 0.06),  # yellow chromate
    Material((0.28, 0.55, 0.72), 1.0, 40.0, 0.05),  # brass
    Material((0.25, 0.40, 0.66), 1.0, 34.0, 0.06),  # copper
    Material((0.14, 0.13, 0.13), 0.7, 24.0, 0.08),  # black oxide
    Material((0.26, 0.34, 0.44), 0.4, 8.0, 0.22),  # rusty steel
)
_PAINTS: Tuple[Tuple[float, float, float], ...] = (
    (0.62, 0.30, 0.12),
    (0.12, 0.16, 0.62),
    (0.22, 0.46, 0.16),
    (0.86, 0.86, 0.84),
    (0.10, 0.55, 0.85),
    (0.20, 0.20, 0.22),
)


def random_material(class_name: str, rng: np.random.Generator) -> Material:
    """Return a plausible finish: gears and brackets may be painted, the rest is bare metal."""
    if class_name in ("gear", "gear_broken", "bracket") and rng.random() < 0.3:
        base = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))])
        material = Material((0.0, 0.0, 0.0), 0.1, 14.0, 0.03)
    else:
        # Bearing steel is never plated in colour.
        common = [5, 4, 2, 0, 0, 0, 1, 0] if class_name == "bearing" else [5, 4, 4, 2, 2, 1, 2, 1]
        weights = np.array(common, dtype=float)
        material = _FINISHES[int(rng.choice(len(_FINISHES), p=weights / weights.sum()))]
        base = np.array(material.albedo_bgr)
    tint = np.clip(base * rng.uniform(0.85, 1.15) + rng.normal(0.0, 0.015, 3), 0.03, 0.95)
    albedo = (float(tint[0]), float(tint[1]), float(tint[2]))
    return Material(albedo, material.metalness, material.gloss, material.grain)


def unit_grid(size_px: float, margin: float, angle_rad: float) -> Tuple[Plane, Plane]:
    """Return float32 [N, N] unit coordinates of a part ``size_px`` wide, rotated by an angle."""
    count = 2 * int(np.ceil(size_px * (0.5 + margin))) + 1
    axis = (np.arange(count, dtype=np.float32) - count // 2) * np.float32(2.0 / size_px)
    cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    column, row = axis[None, :], axis[:, None]
    return column * cos + row * sin, row * cos - column * sin


def render_part(
    class_name: str, size_px: float, angle_rad: float, light: Light, rng: np.random.Generator
) -> Sprite:
    """Render one random part of a class whose bounding disc has a diameter of ``size_px``."""
    # Small parts are drawn at twice the size: thin threads and teeth alias otherwise.
    oversampling = 2 if size_px < 80 else 1
    x, y = unit_grid(size_px * oversampling, _MARGIN, angle_rad)
    relief = build_relief(class_name, x, y, rng)
    material = random_material(class_name, rng)
    sprite = shade(relief, material, light, size_px * oversampling, rng)
    return shrink(sprite) if oversampling == 2 else sprite


def shrink(sprite: Sprite) -> Sprite:
    """Return the sprite at half its size, with an odd side so that its centre stays a pixel."""
    side = 2 * (sprite.alpha.shape[0] // 4) + 1

    def half(image: Image) -> Image:
        return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))

    return Sprite(half(sprite.colour_bgr), half(sprite.alpha), half(sprite.shadow))


def shade(
    relief: Relief, material: Material, light: Light, size_px: float, rng: np.random.Generator
) -> Sprite:
    """Light a relief that is ``size_px`` wide and derive its outline and its shadow."""
    px_per_unit = np.float32(size_px / 2.0)
    alpha = np.clip(0.5 - relief.sdf.astype(np.float32) * px_per_unit, 0.0, 1.0)
    height = np.where(alpha > 0, relief.height.astype(np.float32), np.float32(0.0))
    intensity, highlight = _illuminate(relief, height * px_per_unit, material, light, rng)
    albedo = np.array(material.albedo_bgr, dtype=np.float32)
    tone = (relief.tone.astype(np.float32) * intensity)[..., None]
    # A metal's highlight takes the metal's colour; a paint's highlight stays white.
    gleam = material.metalness * albedo * 1.4 + (1.0 - material.metalness)
    colour = albedo * tone + gleam * highlight[..., None]
    colour_u8 = np.clip(colour * 255.0, 0.0, 255.0).astype(np.uint8)
    shadow = _cast_shadow(alpha, float(height.max()) * float(px_per_unit), light, size_px)
    return Sprite(colour_u8, (alpha * 255.0 + 0.5).astype(np.uint8), shadow)


def _illuminate(
    relief: Relief,
    height_px: Plane,
    material: Material,
    light: Light,
    rng: np.random.Generator,
) -> Tuple[Plane, Plane]:
    """Return (diffuse gain, highlight), float32 [H, W] each, of a surface given in pixels."""
    smooth = cv2.GaussianBlur(height_px, (0, 0), 0.8)
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3) / 8.0
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3) / 8.0
    norm = 1.0 / np.sqrt(slope_x**2 + slope_y**2 + 1.0)
    lx, ly, lz = light.toward_xyz
    lambert = np.clip((-slope_x * lx - slope_y * ly + lz) * norm, 0.0, 1.0)
    # Half vector of lamp and a camera straight above; plain floats keep the arrays float32.
    length = math.sqrt(lx * lx + ly * ly + (lz + 1.0) ** 2)
    facing = np.clip((-slope_x * lx - slope_y * ly + (lz + 1.0)) * (norm / length), 0.0, 1.0)
    highlight = 0.55 * facing**material.gloss
    reach = max(1.0, height_px.shape[0] * 0.025)
    openness = (
        1.0 - np.clip((cv2.GaussianBlur(height_px, (0, 0), reach) - height_px) / reach, 0, 1) * 0.55
    )
    gain = (light.ambient + (1.15 - light.ambient) * lambert) * openness
    if material.metalness > 0.5:
        gain = gain * _reflected_room(relief, slope_x * norm, slope_y * norm, light, rng)
    grain = rng.standard_normal(height_px.shape, dtype=np.float32)
    gain = gain * (1.0 + cv2.GaussianBlur(grain, (0, 0), 0.9) * np.float32(1.6 * material.grain))
    return gain.astype(np.float32), highlight.astype(np.float32)


def _reflected_room(
    relief: Relief, tilt_x: Plane, tilt_y: Plane, light: Light, rng: np.random.Generator
) -> Plane:
    """Return the gain [H, W] by which metal mirrors its surroundings: bands, and lathe wedges."""
    cos, sin = math.cos(light.azimuth_rad), math.sin(light.azimuth_rad)
    along, across = tilt_x * cos + tilt_y * sin, tilt_y * cos - tilt_x * sin
    phase = float(rng.uniform(0.0, 2 * np.pi))
    room = 0.95 + 0.22 * np.sin(5.0 * along + phase) + 0.14 * np.sin(9.0 * across + 2 * phase)
    axis = np.linspace(-1.0, 1.0, room.shape[0], dtype=np.float32)
    rows, columns = axis[:, None], axis[None, :]
    if relief.is_turned:
        theta = np.arctan2(rows, columns)
        wedge = np.cos(theta - light.azimuth_rad - 0.5) ** 6
        lathe_marks = rng.normal(0.0, 0.05, 72).astype(np.float32)
        ring = (np.hypot(rows, columns) * 50.0).astype(np.int64)
        return np.asarray(room * (0.82 + 0.42 * wedge + lathe_marks[ring]))
    return np.asarray(room * (1.0 + 0.2 * (columns * cos + rows * sin)))


def _cast_shadow(alpha: Plane, height_px: float, light: Light, size_px: float) -> Image:
    """Return uint8 [H, W]: how much of the lamp's light the item takes from the belt."""
    length = min(height_px / max(np.tan(light.elevation_rad), 0.3), size_px * _MARGIN * 0.6)
    shift = np.array(
        [
            [1.0, 0.0, -length * 0.7 * np.cos(light.azimuth_rad)],
            [0.0, 1.0, -length * 0.7 * np.sin(light.azimuth_rad)],
        ]
    )
    cast = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
    soft = cv2.GaussianBlur(cast, (0, 0), max(0.6, size_px * light.shadow_softness))
    contact = cv2.GaussianBlur(alpha, (0, 0), max(0.6, size_px * 0.015))
    strength = np.clip(light.shadow_strength * soft + 0.35 * contact, 0.0, 0.85)
    return np.asarray((strength * 255.0).astype(np.uint8))
