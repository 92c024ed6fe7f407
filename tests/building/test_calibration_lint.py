from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from edge.building.calibration_lint import (
    CameraView,
    Exhibit,
    Expectations,
    Found,
    Tone,
    lint,
    listed,
)
from edge.geometry import Image

SIZE_WH = (640, 480)
NONE = Expectations()


def exhibits(count: int, **changes: Any) -> Tuple[Exhibit, ...]:
    """Images under all lights, none like another."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        cells = rng.integers(0, 150, (32, 32)) + 100 * number // max(count, 1)
        given = {"size_wh": SIZE_WH, "thumbnail": cells.astype(np.uint8), "is_labelled": False}
        made.append(Exhibit(Path(f"{number:04d}.jpg"), **{**given, **changes}))
    return tuple(made)


GOOD = exhibits(500)


def cells(level: int, spread: int = 30) -> Image:
    rng = np.random.default_rng(level)
    return np.asarray(rng.integers(level - spread, level + spread + 1, (32, 32)), np.uint8)


def brighter(thumbnail: Image) -> Image:
    return np.asarray(thumbnail + 8, np.uint8)


def view(size_wh: Tuple[int, int], *tone: float) -> Expectations:
    camera = CameraView("gate", size_wh, Tone(*tone) if tone else None)
    return Expectations(cameras=(camera,))


def some(count: int, **changes: Any) -> Tuple[Exhibit, ...]:
    return (*GOOD, *exhibits(500 + count, **changes)[500:])


def tone_of_all() -> Tuple[float, float]:
    tones = [Tone.of(exhibit.thumbnail) for exhibit in GOOD]
    return max(t.brightness for t in tones), float(np.median([t.contrast for t in tones]))


BRIGHTEST, CONTRAST = tone_of_all()

CASES = {
    "nothing to mend": (Found(GOOD), NONE, []),
    "one short": (Found(GOOD[1:]), NONE, ["1 images short of the 500"]),
    "as many as are of use": (Found(exhibits(2000)), NONE, []),
    "more than are of use": (Found(exhibits(2001)), NONE, ["more than 2000"]),
    "unreadable": (
        Found(GOOD, unreadable=tuple(Path(f"{c}.jpg") for c in "abcdefg")), NONE,
        ["7 images are unreadable or cut short, and skipped: "
         "a.jpg, b.jpg, c.jpg, d.jpg, e.jpg and 2 more"],
    ),
    "copy": (Found(GOOD, copies=(Path("x.jpg"),)), NONE, ["1 image is the very copy"]),
    "alike": (
        Found((*GOOD, Exhibit(Path("like.jpg"), SIZE_WH, brighter(GOOD[7].thumbnail), False))),
        NONE,
        ["1 image is hardly different from another: like.jpg"],
    ),
    "all alike": (
        Found(exhibits(500, thumbnail=GOOD[250].thumbnail)), NONE,
        ["499 images are hardly different", "most images show the same", "equally bright"],
    ),
    "as wide as the input": (Found(some(3, size_wh=(640, 300))), Expectations((640, 640)), []),
    "smaller than the input": (
        Found(some(3, size_wh=(639, 479))), Expectations((640, 640)),
        ["3 images are smaller than the model's input, 640x640"],
    ),
    "small like the camera": (
        Found(some(3, size_wh=(320, 240))), Expectations((640, 480), None, (CameraView(
            "a", (320, 240)),)), [],
    ),
    "shape of the camera": (Found(GOOD), view((1280, 960)), []),
    "shape almost of the camera": (Found(GOOD), view((1280, 920)), []),
    "shape of no camera": (
        Found(GOOD), view((1280, 720)),
        ["500 images are of another shape than any camera's frames (1280x720)",
         "no image has the shape of camera gate's frames, 1280x720"],
    ),
    "upright": (Found(some(2, size_wh=(480, 640))), view(SIZE_WH), ["2 images are of another"]),
    "camera as bright": (Found(GOOD), view(SIZE_WH, BRIGHTEST, CONTRAST), []),
    "camera brighter": (
        Found(GOOD), view(SIZE_WH, BRIGHTEST + 17, CONTRAST), ["camera gate is more bright now"],
    ),
    "camera darker": (Found(GOOD), view(SIZE_WH, 10, CONTRAST), ["camera gate is less bright now"]),
    "camera flatter": (
        Found(GOOD), view(SIZE_WH, BRIGHTEST, CONTRAST - 25), ["is less rich in contrast now"],
    ),
    "blank": (
        Found((*GOOD, Exhibit(Path("black.jpg"), SIZE_WH, cells(20, 1), False))), NONE,
        ["1 image is almost blank, as from a covered lens: black.jpg"],
    ),
    "all labelled": (Found(exhibits(500, is_labelled=True)), NONE, []),
    "some labelled": (
        Found(some(1, is_labelled=True)), NONE, ["500 images are without a label file"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "expected", "notes"), CASES.values(), ids=CASES)
def test_notes(found: Found, expected: Expectations, notes: List[str]) -> None:
    seen = lint(found, expected)
    assert len(seen) == len(notes), seen
    for note, start in zip(seen, notes):
        assert start in note
        assert "\n" not in note


def test_a_view_is_taken_of_a_frame() -> None:
    frame = np.full((480, 640, 3), 50, np.uint8)
    frame[:240] = 150
    seen = CameraView.of("gate", frame)
    assert (seen.name, seen.size_wh) == ("gate", (640, 480))
    assert seen.tone == Tone(100.0, 50.0)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "0"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more")]
)
def test_few_names_are_listed(count: int, expected: str) -> None:
    assert listed([Path(str(number)) for number in range(count)]) == expected
