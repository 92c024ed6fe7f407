"""What people should know about a set of calibration images; nothing here stops a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.building.likeness import Album, thumbnail
from edge.geometry import Image

# NVIDIA's advice for a network that sees photographs.
ENOUGH_IMAGES = 500
_USEFUL_IMAGES = 2000

_NAMES_SHOWN = 5
# The shapes of sensors differ by more (4:3, 16:10, 16:9), rounding to whole pixels by less.
_SAME_SHAPE = 0.05
# Grey levels of 255: further apart, two lights are not the same.
_SAME_LIGHT = 16.0
_NARROW_LIGHT = 8.0
# A covered lens, or a night without lamps.
_BLANK_CONTRAST = 4.0


@dataclass(frozen=True)
class Tone:
    """Mean and standard deviation of a picture's grey cells, 0 to 255."""

    brightness: float
    contrast: float

    @classmethod
    def of(cls, cells: Image) -> Tone:
        """The tone of a thumbnail."""
        return cls(float(cells.mean()), float(cells.std()))


@dataclass(frozen=True)
class CameraView:
    """What a camera's live frames look like; without a frame the `tone` is unknown."""

    name: str
    size_wh: Tuple[int, int]
    tone: Optional[Tone] = None

    @classmethod
    def of(cls, name: str, frame: Image) -> CameraView:
        """Of a sample frame, uint8 [h, w, 3] BGR."""
        height, width = frame.shape[:2]
        return cls(name, (width, height), Tone.of(thumbnail(frame)))


@dataclass(frozen=True)
class Expectations:
    """What the images are held against; what is left out is not looked at."""

    input_wh: Optional[Tuple[int, int]] = None
    class_count: Optional[int] = None
    cameras: Tuple[CameraView, ...] = ()


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One usable image as the lint sees it; `thumbnail` is uint8 [32, 32] grey."""

    path: Path
    size_wh: Tuple[int, int]
    thumbnail: Image
    is_labelled: bool


@dataclass(frozen=True, eq=False)
class Found:
    """All that was found in a folder; a copy's bytes are those of an image that is used."""

    usable: Tuple[Exhibit, ...]
    unreadable: Tuple[Path, ...] = ()
    copies: Tuple[Path, ...] = ()


def lint(found: Found, expected: Expectations) -> Tuple[str, ...]:
    """One line for each thing worth mending, the gravest first."""
    return tuple(
        note
        for notes in (
            _files(found),
            _count(len(found.usable)),
            _sameness(found.usable),
            _sizes(found.usable, expected),
            _shapes(found.usable, expected.cameras),
            _light(found.usable, expected.cameras),
            _labels(found.usable),
        )
        for note in notes
    )


def listed(paths: Sequence[Path]) -> str:
    """The first few names, and how many more there are."""
    names = ", ".join(path.name for path in paths[:_NAMES_SHOWN])
    more = len(paths) - _NAMES_SHOWN
    return f"{names} and {more} more" if more > 0 else names


def _files(found: Found) -> Iterator[str]:
    if found.unreadable:
        yield (
            f"{_images(len(found.unreadable))} unreadable or cut short, and skipped: "
            f"{listed(found.unreadable)}"
        )
    if found.copies:
        yield (
            f"{_images(len(found.copies))} the very copy of another, which counts once: "
            f"{listed(found.copies)}"
        )


def _count(count: int) -> Iterator[str]:
    if count < ENOUGH_IMAGES:
        yield (
            f"{ENOUGH_IMAGES - count} images short of the {ENOUGH_IMAGES} that NVIDIA advises; "
            "`edge calibrate --collect` samples more from the cameras"
        )
    if count > _USEFUL_IMAGES:
        yield f"more than {_USEFUL_IMAGES} images take longer and change nothing"


def _sameness(usable: Sequence[Exhibit]) -> Iterator[str]:
    album = Album([exhibit.thumbnail for exhibit in usable])
    alike = _paths(
        exhibit
        for number, exhibit in enumerate(usable)
        if album.holds_alike(exhibit.thumbnail, before=number)
    )
    if alike:
        yield f"{_images(len(alike))} hardly different from another: {listed(alike)}"
    if 2 * len(alike) > len(usable):
        yield "most images show the same; take them over a whole day, minutes apart"


def _sizes(usable: Sequence[Exhibit], expected: Expectations) -> Iterator[str]:
    if expected.input_wh is None:
        return
    input_w, input_h = expected.input_wh
    live = {view.size_wh for view in expected.cameras}
    small = _paths(
        exhibit
        for exhibit in usable
        if exhibit.size_wh[0] < input_w and exhibit.size_wh[1] < input_h
        if exhibit.size_wh not in live
    )
    if small:
        yield (
            f"{_images(len(small))} smaller than the model's input, {input_w}x{input_h}, and "
            f"blurred by enlarging: {listed(small)}"
        )


def _shapes(usable: Sequence[Exhibit], cameras: Sequence[CameraView]) -> Iterator[str]:
    if not cameras:
        return
    live = [view.size_wh for view in cameras]
    odd = _paths(e for e in usable if not any(_same_shape(e.size_wh, size) for size in live))
    if odd:
        sizes = ", ".join(sorted({f"{width}x{height}" for width, height in live}))
        yield (
            f"{_images(len(odd))} of another shape than any camera's frames ({sizes}), and get "
            f"other borders: {listed(odd)}"
        )
    for view in cameras:
        if not any(_same_shape(exhibit.size_wh, view.size_wh) for exhibit in usable):
            width, height = view.size_wh
            yield f"no image has the shape of camera {view.name}'s frames, {width}x{height}"


def _light(usable: Sequence[Exhibit], cameras: Sequence[CameraView]) -> Iterator[str]:
    tones = [Tone.of(exhibit.thumbnail) for exhibit in usable]
    blank = [e.path for e, tone in zip(usable, tones) if tone.contrast < _BLANK_CONTRAST]
    if blank:
        yield f"{_images(len(blank))} almost blank, as from a covered lens: {listed(blank)}"
    brightness = np.array([tone.brightness for tone in tones])
    contrast = np.array([tone.contrast for tone in tones])
    low, high = _bulk(brightness)
    if high - low < _NARROW_LIGHT:
        yield (
            f"all images are equally bright ({low:.0f} to {high:.0f} of 255): taken under one "
            "light; take some at every hour that the cameras run"
        )
    for view in cameras:
        if view.tone is not None:
            yield from _off(view.name, "bright", view.tone.brightness, brightness)
            yield from _off(view.name, "rich in contrast", view.tone.contrast, contrast)


def _off(camera: str, what: str, live: float, values: NDArray[np.float64]) -> Iterator[str]:
    low, high = _bulk(values)
    if live < low - _SAME_LIGHT or live > high + _SAME_LIGHT:
        comparison = "less" if live < low else "more"
        yield (
            f"camera {camera} is {comparison} {what} now ({live:.0f}) than the images "
            f"({low:.0f} to {high:.0f} of 255)"
        )


def _labels(usable: Sequence[Exhibit]) -> Iterator[str]:
    bare = _paths(exhibit for exhibit in usable if not exhibit.is_labelled)
    if bare and len(bare) < len(usable):
        yield (
            f"{_images(len(bare))} without a label file, and not counted in mAP (an empty file "
            f"says that there is no object): {listed(bare)}"
        )


def _bulk(values: NDArray[np.float64]) -> Tuple[float, float]:
    """Between which values nine tenths lie."""
    low, high = np.percentile(values, (5, 95))
    return float(low), float(high)


def _same_shape(one_wh: Tuple[int, int], other_wh: Tuple[int, int]) -> bool:
    ratio = (one_wh[0] * other_wh[1]) / (one_wh[1] * other_wh[0])
    return abs(ratio - 1) <= _SAME_SHAPE


def _paths(exhibits: Iterator[Exhibit]) -> List[Path]:
    return [exhibit.path for exhibit in exhibits]


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
