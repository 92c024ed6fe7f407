"""A deterministic, procedurally rendered view of industrial parts on a belt or a table.

Random access: frame ``index`` of a scene depends on its spec and the index alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import List, Optional, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.demo.scenery.arrays import Image
from edge.demo.scenery.backgrounds import FAMILIES, paint_tile
from edge.demo.scenery.camera import Camera
from edge.demo.scenery.distractors import render_distractor
from edge.demo.scenery.layout import DISTRACTOR_CLASS_ID, Item, LapPlan, plan_lap
from edge.demo.scenery.parts import CLASS_NAMES
from edge.demo.scenery.shading import Light, Sprite, render_part

__all__ = ["CLASS_NAMES", "DIRECTIONS", "FAMILIES", "Scene", "SceneObject", "SceneSpec"]

DIRECTIONS: Tuple[str, ...] = ("right", "left", "down", "up")
_MAX_CACHED_SPRITES = 96


@dataclass(frozen=True)
class SceneObject:
    """One part in one frame.

    ``box_xyxy`` bounds the part's visible pixels, in pixels of this image and clipped to it.
    ``visible_fraction`` is the visible share of the whole part, what lies outside the image
    included. ``track_id`` stays with the part while it crosses the view.
    """

    track_id: int
    class_id: int
    box_xyxy: Tuple[float, float, float, float]
    visible_fraction: float


@dataclass(frozen=True)
class SceneSpec:
    """Everything that decides what a scene looks like; the same spec gives the same pixels.

    ``speed`` is in frame lengths (along the motion) per second. The scene repeats exactly after
    ``lap_s`` seconds. ``background`` is one of ``FAMILIES``. With ``is_belt`` the surface moves
    with the parts and has rails; without it the parts slide over a fixed table.
    """

    seed: int
    size_wh: Tuple[int, int] = (640, 480)
    fps: float = 25.0
    speed: float = 0.22
    lap_s: float = 60.0
    direction: str = "right"
    background: str = "rubber"
    is_belt: bool = True
    parts_per_view: float = 4.0
    distractors_per_view: float = 0.8
    overlap: float = 0.15

    def __post_init__(self) -> None:
        if min(self.size_wh) < 64:
            raise ValueError(f"size_wh: expected at least 64 x 64, got {self.size_wh}")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction: expected one of {DIRECTIONS}, got {self.direction!r}")
        if min(self.fps, self.speed, self.lap_s) <= 0:
            raise ValueError(f"fps, speed and lap_s must be positive, got {self}")


@dataclass(frozen=True)
class _Placed:
    """An item of the current frame with its track id and its centre in image pixels."""

    item: Item
    track_id: int
    x_px: int
    y_px: int


def _random_light(rng: np.random.Generator) -> Light:
    return Light(
        azimuth_rad=float(rng.uniform(0, 2 * np.pi)),
        elevation_rad=float(rng.uniform(0.65, 1.25)),
        ambient=float(rng.uniform(0.35, 0.6)),
        shadow_strength=float(rng.uniform(0.3, 0.65)),
        shadow_softness=float(rng.uniform(0.012, 0.05)),
    )


class Scene:
    """Renders the frames of one spec; sprites and surface are cached, so keep the object."""

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        width, height = spec.size_wh
        self._is_vertical = spec.direction in ("up", "down")
        self._long_px = max(width, height)
        self._view_px = height if self._is_vertical else width
        self._across_px = width if self._is_vertical else height
        rng = np.random.default_rng((spec.seed, 7))
        self._light = _random_light(rng)
        self._lap_frames = max(1, round(spec.lap_s * spec.fps))
        travel_px = spec.speed * spec.lap_s * self._view_px
        # The surface is a whole number of tiles long, or the belt would jump once per lap.
        self._tile_count = max(1, int(travel_px // (1.5 * self._view_px)))
        self._tile_px = max(self._view_px, round(travel_px / self._tile_count))
        self._lap_px = self._tile_count * self._tile_px
        rail_px = round(self._across_px * float(rng.uniform(0.03, 0.07)))
        self._rail_px = rail_px if spec.is_belt else 0
        self._items = plan_lap(self._lap_plan(), rng)
        self._tile = paint_tile(spec.background, self._across_px, self._tile_px, rng)
        step_px = self._lap_px / self._lap_frames
        self._camera = Camera(spec.size_wh, spec.seed, step_px, self._is_vertical)
        self._sprites: OrderedDict[int, Sprite] = OrderedDict()

    def __repr__(self) -> str:
        return f"Scene({self.spec}, items={len(self._items)}, cached_sprites={len(self._sprites)})"

    def _lap_plan(self) -> LapPlan:
        return LapPlan(
            length=self._lap_px / self._long_px,
            width=self._across_px / self._long_px,
            view_length=self._view_px / self._long_px,
            edge=self._rail_px / self._long_px,
            parts_per_view=self.spec.parts_per_view,
            distractors_per_view=self.spec.distractors_per_view,
            overlap=self.spec.overlap,
        )

    def frame(self, index: int) -> Tuple[Image, Tuple[SceneObject, ...]]:
        """Return (image uint8 [H, W, 3] BGR, the visible parts) of frame ``index`` >= 0."""
        if index < 0:
            raise ValueError(f"index: expected at least 0, got {index}")
        lap, step = divmod(index, self._lap_frames)
        offset_px = round(step * self._lap_px / self._lap_frames)
        image = self._surface(offset_px)
        owners = np.zeros(image.shape[:2], np.int32)
        placed = self._items_in_view(lap, offset_px)
        for number, thing in enumerate(placed, start=1):
            sprite = self._sprite(thing.item)
            _composite(image, owners, sprite, (thing.x_px, thing.y_px), number)
        self._draw_rails(image, owners)
        objects = self._objects(placed, owners)
        return self._camera.expose(image, step), objects

    def _surface(self, offset_px: int) -> Image:
        """Return a fresh image of the empty belt, moved on by ``offset_px``."""
        shift = offset_px % self._tile_px if self.spec.is_belt else 0
        sign = -1 if self.spec.direction in ("left", "up") else 1
        start = (-sign * shift) % self._tile_px
        first = self._tile[:, start : start + self._view_px]
        missing = self._view_px - first.shape[1]
        surface = first.copy() if missing <= 0 else cv2.hconcat([first, self._tile[:, :missing]])
        if self._is_vertical:
            surface = np.ascontiguousarray(surface.transpose(1, 0, 2))
        return np.asarray(surface)

    def _items_in_view(self, lap: int, offset_px: int) -> List[_Placed]:
        placed = []
        margin_px = round(0.3 * self._long_px)
        for number, item in enumerate(self._items):
            along_px = round(item.along * self._long_px)
            # A part enters at the upstream edge, half a margin before it can be seen.
            position = (along_px + offset_px) % self._lap_px
            wraps = (along_px + offset_px) // self._lap_px + lap
            if position >= self._lap_px - margin_px:
                position, wraps = position - self._lap_px, wraps + 1
            if position > self._view_px + margin_px:
                continue
            x_px, y_px = self._to_image(position, round(item.across * self._long_px))
            placed.append(_Placed(item, wraps * len(self._items) + number + 1, x_px, y_px))
        return placed

    def _to_image(self, along_px: int, across_px: int) -> Tuple[int, int]:
        if self.spec.direction in ("left", "up"):
            along_px = self._view_px - 1 - along_px
        return (across_px, along_px) if self._is_vertical else (along_px, across_px)

    def _sprite(self, item: Item) -> Sprite:
        cached = self._sprites.get(item.seed)
        if cached is not None:
            self._sprites.move_to_end(item.seed)
            return cached
        rng = np.random.default_rng(item.seed)
        size_px = max(8.0, item.size * self._long_px)
        if item.class_id == DISTRACTOR_CLASS_ID:
            sprite = render_distractor(item.name, size_px, item.angle_rad, self._light, rng)
        else:
            sprite = render_part(item.name, size_px, item.angle_rad, self._light, rng)
        self._sprites[item.seed] = sprite
        if len(self._sprites) > _MAX_CACHED_SPRITES:
            self._sprites.popitem(last=False)
        return sprite

    def _draw_rails(self, image: Image, owners: NDArray[np.int32]) -> None:
        """Cover the belt's edges with its guide rails; they hide what lies below them."""
        if self._rail_px == 0:
            return
        across = image.transpose(1, 0, 2) if self._is_vertical else image
        hidden = owners.T if self._is_vertical else owners
        profile = np.sin(np.linspace(0.3, 2.9, self._rail_px))[:, None, None]
        metal = (70.0 + 120.0 * profile).astype(np.uint8)
        for band in (slice(0, self._rail_px), slice(-self._rail_px, None)):
            across[band] = metal
            hidden[band] = 0

    def _objects(self, placed: List[_Placed], owners: NDArray[np.int32]) -> Tuple[SceneObject, ...]:
        objects = []
        for number, thing in enumerate(placed, start=1):
            if thing.item.class_id == DISTRACTOR_CLASS_ID:
                continue
            sprite = self._sprite(thing.item)
            window = _window(owners.shape, sprite.alpha.shape[0], (thing.x_px, thing.y_px))
            if window is None:
                continue
            rows, columns = window[0]
            visible = owners[rows, columns] == number
            in_rows, in_columns = (
                np.flatnonzero(visible.any(axis=1)),
                np.flatnonzero(visible.any(axis=0)),
            )
            if in_rows.size == 0:
                continue
            box = (
                float(columns.start + in_columns[0]),
                float(rows.start + in_rows[0]),
                float(columns.start + in_columns[-1] + 1),
                float(rows.start + in_rows[-1] + 1),
            )
            share = float(np.count_nonzero(visible)) / float(np.count_nonzero(sprite.mask))
            objects.append(SceneObject(thing.track_id, thing.item.class_id, box, share))
        return tuple(objects)


def _window(
    shape: Tuple[int, ...], side: int, centre_xy: Tuple[int, int]
) -> Optional[Tuple[Tuple[slice, slice], Tuple[slice, slice]]]:
    """Return ((rows, columns) of the image, (rows, columns) of the sprite), or None if outside."""
    left, top = centre_xy[0] - side // 2, centre_xy[1] - side // 2
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(shape[1], left + side), min(shape[0], top + side)
    if x0 >= x1 or y0 >= y1:
        return None
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _composite(
    image: Image, owners: NDArray[np.int32], sprite: Sprite, centre_xy: Tuple[int, int], number: int
) -> None:
    """Lay a sprite and its shadow on the image in place and claim the pixels it covers."""
    window = _window(image.shape, sprite.alpha.shape[0], centre_xy)
    if window is None:
        return
    target, source = window
    region = image[target]
    alpha = cv2.merge([sprite.alpha[source]] * 3)
    lit = cv2.bitwise_not(cv2.merge([sprite.shadow[source]] * 3))
    shaded = cv2.multiply(region, lit, scale=1.0 / 255.0)
    kept = cv2.multiply(shaded, cv2.bitwise_not(alpha), scale=1.0 / 255.0)
    added = cv2.multiply(np.ascontiguousarray(sprite.colour_bgr[source]), alpha, scale=1.0 / 255.0)
    image[target] = cv2.add(kept, added)
    owners[target][sprite.alpha[source] > 127] = number
