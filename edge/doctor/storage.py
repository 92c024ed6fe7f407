"""The disk that the appliance keeps its state on, the calibration images, the engines kept."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence, Tuple

from edge.doctor.finding import Finding, absent, fault, ok, warning
from edge.errors import ConfigError

_MB = 2**20
# Building an engine writes several copies of it, and the outbox wants room of its own.
_TIGHT_BYTES = 2048 * _MB
_TOO_LITTLE_BYTES = 256 * _MB
_FEW_FILES = 1000


@dataclass(frozen=True)
class Disk:
    """The file system of a folder; `trouble` says why nothing can be written there."""

    folder: Path
    free_bytes: int = 0
    free_files: int = _FEW_FILES
    trouble: str = ""


@dataclass(frozen=True)
class Calibration:
    """How many images there are, are needed, and are advised; `trouble` is the folder's."""

    images: int
    least: int
    advised: int
    trouble: str = ""


@dataclass(frozen=True)
class KeptEngine:
    """An engine on the disk, by its manifest; `trouble` where it cannot be used again."""

    slot: str
    version: str = ""
    created: str = ""
    is_refused: bool = False
    trouble: str = ""


def look_at_disk(folder: Path) -> Disk:
    """Writes and removes a file; where the folder is not made yet, in the first one above it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        room = os.statvfs(folder)
        free_bytes = room.f_bavail * room.f_frsize
        # File systems without a fixed number of files say 0 of 0.
        free_files = room.f_favail if room.f_files else _FEW_FILES
        with tempfile.TemporaryFile(dir=folder):
            return Disk(folder, free_bytes, free_files)
    except OSError as error:
        return Disk(folder, trouble=_why(error))


def judge_disk(disk: Disk) -> Iterator[Finding]:
    """State, engines and undelivered messages go there."""
    free = f"{disk.free_bytes // _MB} MB free in {disk.folder}"
    if disk.trouble:
        fix = "sudo systemd-tmpfiles --create, or correct device.state_dir and its owner"
        yield fault("disk", f"{disk.folder}: {disk.trouble}", fix)
    elif disk.free_bytes < _TOO_LITTLE_BYTES:
        yield fault("disk", f"only {free}", "remove what is not needed: docker image prune")
    elif disk.free_files < _FEW_FILES:
        yield fault("disk", f"room for {disk.free_files} files only in {disk.folder}", "df -i")
    elif disk.free_bytes < _TIGHT_BYTES:
        yield warning("disk", f"{free}: tight for building an engine", "docker image prune")
    else:
        yield ok("disk", free)


def look_at_calibration(folder: Path) -> Calibration:
    """Counts the images, and looks into none."""
    # Here, so that this module serves where the builder's libraries are missing.
    from edge.building.calibration import MIN_IMAGES
    from edge.building.calibration_lint import ENOUGH_IMAGES
    from edge.building.image_file import list_images

    try:
        count = len(list_images(folder))
    except ConfigError as error:
        return Calibration(0, MIN_IMAGES, ENOUGH_IMAGES, str(error))
    return Calibration(count, MIN_IMAGES, ENOUGH_IMAGES)


def judge_calibration(found: Calibration, folder: Path) -> Iterator[Finding]:
    """Without enough of them there is no INT8 engine, or none the gate lets serve."""
    words, collect = f"{found.images} images in {folder}", "edge calibrate --collect"
    if found.trouble:
        trouble, _, fix = found.trouble.partition("; ")
        yield fault("calibration", trouble, fix)
    elif found.images < found.least:
        yield fault("calibration", f"{words}, at least {found.least} are needed", collect)
    elif found.images < found.advised:
        yield warning("calibration", f"{words}, {found.advised} are advised", collect)
    else:
        yield ok("calibration", f"{words} (`edge calibrate` looks into them)")


def look_at_engines(state_dir: Path) -> Tuple[KeptEngine, ...]:
    """By their manifests; none is loaded. A folder that is not there holds none."""
    # Here, so that this module serves where the builder's libraries are missing.
    from edge.building.engine_store import Manifest
    from edge.building.kept_file import parse_kept, read_kept
    from edge.building.plan import STORE_NAME

    found = []
    for path in sorted((state_dir / STORE_NAME).glob("*.json")):
        slot = path.name.split(".")[0]
        try:
            manifest = parse_kept(read_kept(path, 4 * _MB), Manifest)
        except (OSError, ValueError) as error:
            found.append(KeptEngine(slot, trouble=f"its manifest is damaged: {error}"))
            continue
        trouble = (
            ""
            if manifest.file is None
            else _missing(path.with_name(manifest.file), manifest.size_bytes)
        )
        version = manifest.fingerprint.backend.version
        is_refused = manifest.file is None
        found.append(KeptEngine(slot, version, manifest.created, is_refused, trouble))
    return tuple(found)


def judge_engines(kept: Sequence[KeptEngine], versions: Sequence[str]) -> Iterator[Finding]:
    """`versions` are those of what can run an engine here."""
    if not kept:
        yield absent(
            "engines", "none was built yet: the daemon's first start does, or `edge build`"
        )
    for engine in kept:
        title = f"{engine.slot} of {engine.created[:10]}"
        if engine.trouble:
            yield warning("engines", f"{engine.slot}: {engine.trouble}", "edge build")
        elif engine.is_refused:
            words = f"{title}: the gate refused it; the float engine serves"
            yield warning("engines", words, "edge build says why")
        elif engine.version not in versions:
            words = f"{title} is of version {engine.version}, which is not here any more"
            yield warning("engines", words, "it is built anew at the next start, or: edge build")
        else:
            yield ok("engines", f"{title}, version {engine.version}")


def _missing(path: Path, size_bytes: int) -> str:
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    if size == size_bytes:
        return ""
    return f"{path.name} has {size} of {size_bytes} bytes"


def _why(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "the file system is read-only (after errors of the disk: see `dmesg`)"
    return f"not writable: {error.strerror}"
