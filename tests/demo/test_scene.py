"""The renderer is deterministic, and its ground truth is what the pixels show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.demo.scene import CLASS_NAMES, DIRECTIONS, FAMILIES, Scene, SceneObject, SceneSpec
from edge.demo.scenery.backgrounds import HELD_OUT_FAMILIES, TRAINING_FAMILIES, paint_tile

SMALL = SceneSpec(seed=3, size_wh=(320, 240), fps=10.0, speed=0.5, lap_s=20.0)


def test_same_spec_and_index_give_the_same_frame() -> None:
    first, first_objects = Scene(SMALL).frame(7)
    second, second_objects = Scene(SMALL).frame(7)
    assert np.array_equal(first, second)
    assert first_objects == second_objects


def test_another_seed_gives_another_frame() -> None:
    other = replace(SMALL, seed=4)
    assert not np.array_equal(Scene(SMALL).frame(0)[0], Scene(other).frame(0)[0])


def test_random_access_equals_sequential_access() -> None:
    sequential, jumping = Scene(SMALL), Scene(SMALL)
    frames = [sequential.frame(index) for index in range(12)]
    for index in (11, 3, 7):
        image, objects = jumping.frame(index)
        assert np.array_equal(image, frames[index][0])
        assert objects == frames[index][1]


def test_a_lap_repeats_with_new_track_ids() -> None:
    scene = Scene(SMALL)
    lap_frames = round(SMALL.fps * SMALL.lap_s)
    image, objects = scene.frame(5)
    next_image, next_objects = scene.frame(5 + lap_frames)
    assert np.array_equal(image, next_image)
    assert [o.box_xyxy for o in objects] == [o.box_xyxy for o in next_objects]
    assert not {o.track_id for o in objects} & {o.track_id for o in next_objects}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_parts_move_along_the_belt_and_keep_their_track(direction: str) -> None:
    scene = Scene(replace(SMALL, direction=direction, parts_per_view=6.0, overlap=0.0))
    sign = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}[direction]
    moved = 0
    for index in range(0, 60, 6):
        before = {o.track_id: o for o in scene.frame(index)[1] if o.visible_fraction == 1.0}
        after = {o.track_id: o for o in scene.frame(index + 1)[1] if o.visible_fraction == 1.0}
        for track_id in before.keys() & after.keys():
            dx = after[track_id].box_xyxy[0] - before[track_id].box_xyxy[0]
            dy = after[track_id].box_xyxy[1] - before[track_id].box_xyxy[1]
            assert before[track_id].class_id == after[track_id].class_id
            assert dx * sign[0] + dy * sign[1] > 0
            assert dx * sign[1] + dy * sign[0] == 0
            moved += 1
    assert moved >= 5


def test_a_track_never_ends_while_its_part_is_in_the_middle_of_the_image() -> None:
    scene = Scene(SMALL)
    previous: Dict[int, SceneObject] = {}
    for index in range(round(SMALL.fps * SMALL.lap_s) + 10):
        current = {o.track_id: o for o in scene.frame(index)[1]}
        lost = [o for track_id, o in previous.items() if track_id not in current]
        assert all(o.box_xyxy[2] > 0.8 * SMALL.size_wh[0] for o in lost)
        previous = current


@pytest.mark.parametrize("size_wh", [(160, 120), (320, 240), (240, 320), (641, 479), (1920, 1080)])
def test_boxes_lie_in_images_of_any_size(size_wh: Tuple[int, int]) -> None:
    image, objects = Scene(replace(SMALL, size_wh=size_wh, parts_per_view=6.0)).frame(20)
    assert image.shape == (size_wh[1], size_wh[0], 3)
    assert image.dtype == np.uint8
    for found in objects:
        x0, y0, x1, y1 = found.box_xyxy
        assert 0 <= x0 < x1 <= size_wh[0]
        assert 0 <= y0 < y1 <= size_wh[1]


def test_boxes_are_tight_around_the_pixels_that_a_part_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a camera's flaws and shadows, parts are exactly what differs from the empty belt."""
    monkeypatch.setattr(
        "edge.demo.scenery.camera.Camera.expose", lambda _self, image, _index: image
    )
    monkeypatch.setattr(
        "edge.demo.scenery.shading._cast_shadow",
        lambda alpha, _height, _light, _size: np.zeros(alpha.shape, np.uint8),
    )
    spec = replace(SMALL, is_belt=False, parts_per_view=3.0, distractors_per_view=0.0, overlap=0.0)
    scene = Scene(spec)
    empty = scene._surface(0)
    checked = 0
    for index in range(0, 200, 20):
        image, objects = scene.frame(index)
        changed = (image != empty).any(axis=2)
        whole = [o for o in objects if o.visible_fraction == 1.0]
        for x0, y0, x1, y1 in (tuple(int(v) for v in o.box_xyxy) for o in whole):
            # A rim pixel that the part covers by less than half belongs to the image, not the box.
            rim = np.ones_like(changed)
            rim[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
            around = (slice(max(0, y0 - 3), y1 + 3), slice(max(0, x0 - 3), x1 + 3))
            if len(_touching(objects, (x0 - 4, y0 - 4, x1 + 4, y1 + 4))) > 1:
                continue
            assert not (changed & rim)[around].any()
            inside = changed[y0:y1, x0:x1]
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()
            checked += 1
    assert checked >= 5


def _touching(
    objects: Sequence[SceneObject], area_xyxy: Tuple[int, int, int, int]
) -> List[SceneObject]:
    x0, y0, x1, y1 = area_xyxy
    return [
        o
        for o in objects
        if o.box_xyxy[0] < x1 and o.box_xyxy[2] > x0 and o.box_xyxy[1] < y1 and o.box_xyxy[3] > y0
    ]


def test_visible_fraction_falls_at_the_border_and_is_one_inside() -> None:
    spec = replace(SMALL, is_belt=False, overlap=0.0, distractors_per_view=0.0)
    scene = Scene(spec)
    inside: List[float] = []
    cut: List[float] = []
    for index in range(0, 200, 4):
        for found in scene.frame(index)[1]:
            x0, y0, x1, y1 = found.box_xyxy
            is_cut = x0 <= 0 or y0 <= 0 or x1 >= 320 or y1 >= 240
            (cut if is_cut else inside).append(found.visible_fraction)
    assert min(inside) > 0.99
    assert min(cut) < 0.35
    assert all(0.0 < fraction <= 1.0 for fraction in inside + cut)


def test_overlap_hides_parts_inside_the_image() -> None:
    scene = Scene(replace(SMALL, is_belt=False, overlap=1.0, parts_per_view=10.0))
    hidden = [
        found
        for index in range(0, 200, 20)
        for found in scene.frame(index)[1]
        if found.visible_fraction < 0.97 and found.box_xyxy[0] > 8 and found.box_xyxy[2] < 312
    ]
    assert len(hidden) >= 5


def test_a_lap_has_an_empty_stretch_and_every_class() -> None:
    scene = Scene(SMALL)
    frames = [scene.frame(index)[1] for index in range(0, 200, 2)]
    assert sum(not objects for objects in frames) >= 3
    assert {found.class_id for objects in frames for found in objects} == set(
        range(len(CLASS_NAMES))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_surface_repeats_without_a_seam(family: str) -> None:
    tile = paint_tile(family, 120, 180, np.random.default_rng(1)).astype(float)
    steps: NDArray[Any] = np.abs(np.diff(tile, axis=1)).mean(axis=(0, 2))
    seam = np.abs(tile[:, 0] - tile[:, -1]).mean()
    assert seam <= 1.5 * steps.max() + 1.0


def test_held_out_families_are_not_trained_on() -> None:
    assert set(HELD_OUT_FAMILIES) | set(TRAINING_FAMILIES) == set(FAMILIES)
    assert not set(HELD_OUT_FAMILIES) & set(TRAINING_FAMILIES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_wh": (32, 32)}, "size_wh"),
        ({"direction": "sideways"}, "direction"),
        ({"speed": 0.0}, "speed"),
    ],
)
def test_bad_specs_are_refused(change: Dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_unknown_backgrounds_are_refused() -> None:
    with pytest.raises(ValueError, match="background"):
        Scene(replace(SMALL, background="lava"))


def test_negative_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="index"):
        Scene(SMALL).frame(-1)
