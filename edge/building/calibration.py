"""The calibration images: which they are, who learns from them, and how the network sees them."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.building.calibration_lint import ENOUGH_IMAGES, Exhibit, Expectations, Found, lint, listed
from edge.building.image_file import Look, list_images, look_at, read_bytes, read_image, sha256_of
from edge.building.labels import Labels, find_labels, read_labels
from edge.building.likeness import Album
from edge.errors import ConfigError
from edge.geometry import Image, Letterbox
from edge.records import ChannelOrder, Preprocessing

# Fewer can neither teach nor judge; how good many more are, the gate says.
MIN_IMAGES = 10

# A daemon may be serving on the other cores.
_THREADS = 2
_FAULTS_SHOWN = 20
_HASH_DIGITS = 16
_NOTHING_EXPECTED = Expectations()

Images = Tuple["CalibrationImage", ...]


@dataclass(frozen=True)
class CalibrationImage:
    """An image file by its content; `labels` is None where nobody said what it shows."""

    path: Path
    sha256: str
    size_wh: Tuple[int, int]
    labels: Optional[Labels] = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class CalibrationSet:
    """The usable images in the order of their content's hash, each content once.

    `sha256` names the content of all files, whatever their names; `notes` are for people.
    """

    images: Images
    sha256: str
    notes: Tuple[str, ...]
    _thumbnails: Tuple[Image, ...] = field(compare=False, repr=False)

    def split(self, holdout: float) -> Tuple[Images, Images]:
        """Parts them into those to calibrate from and those, about `holdout`, to judge by.

        An image's own content decides, so that a new one moves no other to the other side. What
        hardly differs from an image to calibrate from would be judged too well: it is in neither
        part. Raises ConfigError if a part is empty.
        """
        limit = int(holdout * 16**_HASH_DIGITS)
        is_held = [int(image.sha256[:_HASH_DIGITS], 16) < limit for image in self.images]
        numbers = range(len(self.images))
        learnt = Album([self._thumbnails[i] for i in numbers if not is_held[i]])
        calibration = tuple(self.images[i] for i in numbers if not is_held[i])
        held_out = tuple(
            self.images[i]
            for i in numbers
            if is_held[i] and not learnt.holds_alike(self._thumbnails[i])
        )
        if not calibration or not held_out:
            raise ConfigError(
                f"calibration.folder: of its {len(self.images)} images none is left to "
                f"{'judge by' if calibration else 'calibrate from'}; add images that differ"
            )
        return calibration, held_out


@dataclass(frozen=True, eq=False)
class _File:
    """One image file after one pass over it; `look` is None where it is no whole image."""

    path: Path
    sha256: str
    labels_path: Optional[Path]
    labels_sha256: str
    look: Optional[Look]


def read_calibration(
    folder: Path, expectations: Expectations = _NOTHING_EXPECTED
) -> CalibrationSet:
    """Looks at every image of the folder, holding none, and says what should be mended.

    Raises ConfigError where the folder cannot be used, or with one line per faulty label file.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="calibration") as pool:
        files = list(pool.map(_look_at, list_images(folder)))
    unreadable = [file.path for file in files if file.look is None]
    chosen, copies = _without_copies(file for file in files if file.look is not None)
    if len(chosen) < MIN_IMAGES:
        raise ConfigError(_too_few(folder, len(chosen), unreadable, copies))
    images = _with_labels(chosen, expectations.class_count)
    thumbnails = tuple(file.look.thumbnail for file in chosen if file.look is not None)
    exhibits = [
        Exhibit(image.path, image.size_wh, cells, image.labels is not None)
        for image, cells in zip(images, thumbnails)
    ]
    exhibits.sort(key=lambda exhibit: exhibit.path)
    notes = lint(Found(tuple(exhibits), tuple(unreadable), tuple(copies)), expectations)
    return CalibrationSet(images, _sha256(files), notes, thumbnails)


def folder_sha256(folder: Path) -> str:
    """The `sha256` of the folder's set, without looking at any image; ConfigError as there."""
    return _sha256(map(_hash, list_images(folder)))


def letterboxed(
    images: Sequence[CalibrationImage], preprocessing: Preprocessing, batch: int
) -> Iterator[Image]:
    """Batches uint8 [batch, H, W, 3] BGR, drawn as live frames are.

    The last is filled up with the first images again: an engine's calibration takes full batches
    only. Raises BuildError for a file that has changed since.
    """
    width, height = preprocessing.input_wh
    padded = itertools.islice(itertools.cycle(images), -(-len(images) // batch) * batch)
    while True:
        part = list(itertools.islice(padded, batch))
        if not part:
            return
        rows = np.empty((batch, height, width, 3), np.uint8)
        for row, image in zip(rows, part):
            source = read_image(image.path)
            source_wh = (source.shape[1], source.shape[0])
            letterbox = Letterbox.fit(source_wh, preprocessing.input_wh, preprocessing.pad_anchor)
            letterbox.draw(source, row)
        yield rows


def to_network(frames: Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The network's own input, float32 [B, 3, H, W], as the deployed graph makes it of frames.

    `frames` is uint8 [B, H, W, 3] BGR.
    """
    planes = frames.astype(np.float32).transpose(0, 3, 1, 2)
    if preprocessing.channel_order is ChannelOrder.RGB:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes / np.float32(preprocessing.divisor), np.float32)


def _look_at(path: Path) -> _File:
    data = read_bytes(path)
    return _file(path, data, look_at(data))


def _hash(path: Path) -> _File:
    return _file(path, read_bytes(path), None)


def _file(path: Path, data: bytes, look: Optional[Look]) -> _File:
    labels_path = find_labels(path)
    labels_sha256 = "" if labels_path is None else sha256_of(read_bytes(labels_path))
    return _File(path, sha256_of(data), labels_path, labels_sha256, look)


def _sha256(files: Iterable[_File]) -> str:
    lines = sorted({f"{file.sha256} {file.labels_sha256}\n" for file in files})
    return sha256_of("".join(lines).encode())


def _without_copies(files: Iterable[_File]) -> Tuple[List[_File], List[Path]]:
    """One file of each content, in the order of their hashes, and the copies of these."""
    chosen: Dict[str, _File] = {}
    copies: List[Path] = []
    for file in sorted(files, key=_preference):
        if chosen.setdefault(file.sha256, file) is not file:
            copies.append(file.path)
    return list(chosen.values()), sorted(copies)


def _preference(file: _File) -> Tuple[str, bool, str, Path]:
    # Of copies a labelled one; by content, so that a renamed one changes nothing.
    return (file.sha256, file.labels_path is None, file.labels_sha256, file.path)


def _too_few(folder: Path, count: int, unreadable: List[Path], copies: List[Path]) -> str:
    causes = [f"{count} of its {count + len(unreadable) + len(copies)} images can be used"]
    if unreadable:
        causes.append(f"unreadable or cut short: {listed(unreadable)}")
    if copies:
        causes.append(f"copies of others: {listed(copies)}")
    return (
        f"calibration.folder: {folder}: only {'; '.join(causes)}; "
        f"at least {MIN_IMAGES} are needed, {ENOUGH_IMAGES} or more advised"
    )


def _with_labels(files: Iterable[_File], class_count: Optional[int]) -> Images:
    images: List[CalibrationImage] = []
    faults: List[str] = []
    for file in files:
        if file.look is None:
            continue
        labels: Optional[Labels] = None
        try:
            if file.labels_path is not None:
                labels = read_labels(file.labels_path, file.look.size_wh, class_count)
        except ConfigError as error:
            faults.append(str(error))
        images.append(CalibrationImage(file.path, file.sha256, file.look.size_wh, labels))
    if faults:
        raise ConfigError("\n".join(_shortened(sorted(faults))))
    return tuple(images)


def _shortened(faults: List[str]) -> List[str]:
    more = len(faults) - _FAULTS_SHOWN
    return [*faults[:_FAULTS_SHOWN], f"and {more} more label files"] if more > 0 else faults
