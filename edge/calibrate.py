"""`edge calibrate`: says how good the calibration images are, or collects them from the cameras."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

import cv2

from edge.building.calibration import CalibrationSet, read_calibration
from edge.building.calibration_lint import CameraView, Expectations
from edge.building.graph import deploy
from edge.building.image_file import list_images
from edge.building.likeness import is_alike, thumbnail
from edge.capture import Mailbox, Reader, Watchdog, open_source, source_factory
from edge.clock import MS_PER_S, NS_PER_S, Clock, SystemClock
from edge.config.schema import CameraConfig, Config
from edge.errors import CaptureError, ConfigError, EdgeError
from edge.geometry import Image
from edge.line import render_scene
from edge.records import CameraState, Frame

_JPEG_QUALITY = 95
_SIZES_SHOWN = 8

_POLL_S = 0.05
_STOP_S = 2.0
_SHORTEST_REPORT_S, _LONGEST_REPORT_S = 1.0, 300.0
_REPORTS = 20
# Where nothing moves, a picture's place is tried so often before the next one's begins.
_TRIES_PER_PLACE = 10


def inspect(config: Config, base_dir: Path) -> Iterator[str]:
    """What the configured folder holds and what should be mended, against model and cameras.

    Raises ConfigError where no engine could be calibrated from it.
    """
    folder = _folder(config)
    list_images(folder)
    yield f"folder    {folder}"
    graph = deploy(config.model.path, config.model)
    width, height = graph.preprocessing.input_wh
    yield f"model     {graph.name}, input {width}x{height}, {len(graph.class_names)} classes"
    views: List[CameraView] = []
    for camera in _enabled(config):
        yield f"camera    {_look(camera, base_dir, views)}"
    expected = Expectations((width, height), len(graph.class_names), tuple(views))
    found = read_calibration(folder, expected)
    yield from _contents(found, config.calibration.holdout)
    yield from (f"! {note}" for note in found.notes)
    yield f"{len(found.notes)} to mend" if found.notes else "ok"


class Schedule:
    """When a camera's pictures are due: one in each of `count` equal parts of a span.

    A part that passed without a picture is not made up for: the next would show the same minute.
    """

    def __init__(self, start_ns: int, span_ns: int, count: int) -> None:
        self._start_ns = start_ns
        self._span_ns = span_ns
        self._count = count
        self._filled = -1
        self._next_try_ns = start_ns

    def is_due(self, now_ns: int) -> bool:
        """Tells whether a picture of this part of the span is still to be taken."""
        return self._filled < self._part(now_ns) < self._count and now_ns >= self._next_try_ns

    def fill(self, now_ns: int) -> None:
        """One was taken."""
        self._filled = self._part(now_ns)

    def put_off(self, now_ns: int) -> None:
        """One was refused; the next try is a little later."""
        self._next_try_ns = now_ns + self._span_ns // (max(self._count, 1) * _TRIES_PER_PLACE)

    @property
    def is_over(self) -> bool:
        """Tells whether the last part has its picture."""
        return self._filled >= self._count - 1

    def _part(self, now_ns: int) -> int:
        return (now_ns - self._start_ns) * self._count // self._span_ns


class Sampler:
    """Keeps pictures of one camera that differ from each other."""

    def __init__(self, camera: str, reader: Reader, mailbox: Mailbox, schedule: Schedule) -> None:
        self.camera = camera
        self.reader = reader
        self.kept = 0
        self.alike = 0
        self._mailbox = mailbox
        self._schedule = schedule
        self._last: Optional[Image] = None

    @property
    def is_done(self) -> bool:
        """Tells whether no picture is to come any more."""
        has_ended = self.reader.status.state is CameraState.ENDED
        return self._schedule.is_over or (has_ended and self._mailbox.peek() is None)

    def sample(self, now_ns: int, folder: Path) -> None:
        """Writes the newest frame, if one is due and shows something new; ConfigError if it
        cannot."""
        frame = self._mailbox.take() if self._schedule.is_due(now_ns) else None
        if frame is None:
            return
        cells = thumbnail(frame.image)
        if self._last is not None and is_alike(self._last, cells):
            self.alike += 1
            self._schedule.put_off(now_ns)
            return
        write_frame(folder, frame, self.kept)
        self.kept += 1
        self._last = cells
        self._schedule.fill(now_ns)

    def __str__(self) -> str:
        status = self.reader.status
        why = f": {status.reason}" if status.reason else ""
        state = "" if status.state is CameraState.ONLINE else f"; {status.state.value}{why}"
        return f"{self.camera}: {self.kept} kept, {self.alike} skipped as alike{state}"


class Collector:
    """Samples all enabled cameras evenly over a span of time into calibration.folder."""

    def __init__(self, config: Config, base_dir: Path, seconds: float, images: int) -> None:
        self._cameras = _enabled(config)
        self._base_dir = base_dir
        self._folder = _folder(config)
        self._seconds = seconds
        self._images = images
        self._clock: Clock = SystemClock()
        self._samplers: List[Sampler] = []
        self._failure: Optional[EdgeError] = None

    def lines(self, stop: threading.Event) -> Iterator[str]:
        """Collects until the time is over or `stop`, and says how it goes.

        Raises ConfigError where the folder cannot be written, CaptureError where no camera has
        delivered a frame.
        """
        if not self._cameras:
            raise ConfigError("cameras: none is enabled; there is nothing to collect from")
        _check_writable(self._folder)
        yield (
            f"folder    {self._folder}: {self._images} images from {len(self._cameras)} cameras "
            f"over {_duration(self._seconds)}; Ctrl-C ends and keeps them"
        )
        start_ns = self._clock.monotonic_ns()
        self._samplers = self._make_samplers(start_ns)
        watchdog = Watchdog((sampler.reader for sampler in self._samplers), self._fail)
        try:
            for sampler in self._samplers:
                sampler.reader.start()
            yield from self._collect(start_ns, watchdog, stop)
        finally:
            self._stop_readers()
        yield from (f"camera    {sampler}" for sampler in self._samplers)
        if not stop.is_set() and not any(s.reader.frames_read for s in self._samplers):
            raise CaptureError("no camera has delivered a frame; `edge check` tells more")
        yield f"kept      {self._kept} of {self._images} in {self._folder}"

    @property
    def _kept(self) -> int:
        return sum(sampler.kept for sampler in self._samplers)

    def _make_samplers(self, start_ns: int) -> List[Sampler]:
        span_ns = max(int(self._seconds * NS_PER_S), 1)
        shares = even_shares(self._images, len(self._cameras))
        return [
            self._sampler(camera, Schedule(start_ns, span_ns, share))
            for camera, share in zip(self._cameras, shares)
        ]

    def _sampler(self, camera: CameraConfig, schedule: Schedule) -> Sampler:
        sources = source_factory(camera, self._base_dir, render_scene)
        mailbox = Mailbox(camera.name, lambda: None)
        reader = Reader(camera, sources, mailbox, self._clock, lambda status: None, self._fail)
        return Sampler(camera.name, reader, mailbox, schedule)

    def _fail(self, thread: str, error: BaseException) -> None:
        self._failure = (
            error if isinstance(error, EdgeError) else EdgeError(f"{thread} died: {error!r}")
        )

    def _collect(self, start_ns: int, watchdog: Watchdog, stop: threading.Event) -> Iterator[str]:
        report_s = min(max(self._seconds / _REPORTS, _SHORTEST_REPORT_S), _LONGEST_REPORT_S)
        next_report_s = report_s
        while not stop.wait(_POLL_S):
            if self._failure is not None:
                raise self._failure
            now_ns = self._clock.monotonic_ns()
            watchdog.check(now_ns)
            elapsed_s = (now_ns - start_ns) / NS_PER_S
            if elapsed_s >= self._seconds or all(s.is_done for s in self._samplers):
                return
            self._sample(now_ns)
            if elapsed_s >= next_report_s:
                next_report_s += report_s
                yield self._progress(elapsed_s)

    def _sample(self, now_ns: int) -> None:
        for sampler in self._samplers:
            try:
                sampler.sample(now_ns, self._folder)
            except ConfigError as error:
                raise ConfigError(f"{error} ({self._kept} images are kept)") from error

    def _progress(self, elapsed_s: float) -> str:
        alike = sum(sampler.alike for sampler in self._samplers)
        absent = [
            f"{sampler.camera} is {sampler.reader.status.state.value}"
            for sampler in self._samplers
            if sampler.reader.status.state is not CameraState.ONLINE
        ]
        return (
            f"{100 * elapsed_s / self._seconds:5.1f} %   {self._kept} of {self._images} kept, "
            f"{alike} skipped as alike{''.join(f'; {words}' for words in absent)}"
        )

    def _stop_readers(self) -> None:
        for sampler in self._samplers:
            sampler.reader.stop()
        deadline_ns = self._clock.monotonic_ns() + int(_STOP_S * NS_PER_S)
        for sampler in self._samplers:
            # One that hangs in its driver ends with the process.
            sampler.reader.join((deadline_ns - self._clock.monotonic_ns()) / NS_PER_S)


def even_shares(total: int, parts: int) -> List[int]:
    """Shares that differ by one at most, the larger ones first."""
    share, rest = divmod(total, parts)
    return [share + (number < rest) for number in range(parts)]


def write_frame(folder: Path, frame: Frame, number: int) -> Path:
    """Writes a frame as camera-time-number.jpg and never over another file; or ConfigError."""
    _, encoded = cv2.imencode(".jpg", frame.image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    moment = datetime.fromtimestamp(frame.info.captured_unix_ms / MS_PER_S, tz=timezone.utc)
    while True:
        path = folder / f"{frame.info.camera}-{moment:%Y%m%dT%H%M%SZ}-{number:04d}.jpg"
        try:
            _write_new(path, encoded.tobytes())
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(
                f"cannot write {path}: {error.strerror}; make room, or choose another "
                "calibration.folder"
            ) from error


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"calibration.folder: {folder} cannot be written: {reason}; make it writable, or "
            "choose another"
        ) from error


def _folder(config: Config) -> Path:
    if config.calibration.folder is None:
        raise ConfigError(
            "calibration.folder is not given; name the folder that holds the calibration images, "
            "or is to hold them"
        )
    return config.calibration.folder


def _enabled(config: Config) -> Sequence[CameraConfig]:
    return [camera for camera in config.cameras if camera.enabled]


def _look(camera: CameraConfig, base_dir: Path, views: List[CameraView]) -> str:
    """Reads one frame for comparison into `views`, and says what it looks like."""
    source = open_source(camera, base_dir, render_scene)
    try:
        source.open()
        picture = source.read()
    except CaptureError as error:
        return f"{camera.name}: not compared: {error}"
    finally:
        source.close()
    if picture is None:
        return f"{camera.name}: not compared: holds no picture"
    view = CameraView.of(camera.name, picture.image)
    views.append(view)
    tone = view.tone
    words = f", brightness {tone.brightness:.0f}, contrast {tone.contrast:.0f}" if tone else ""
    return f"{camera.name}: {view.size_wh[0]}x{view.size_wh[1]}{words}"


def _contents(found: CalibrationSet, holdout: float) -> Iterator[str]:
    sizes = Counter(image.size_wh for image in found.images).most_common()
    shown = ", ".join(
        f"{width}x{height} {count}" for (width, height), count in sizes[:_SIZES_SHOWN]
    )
    yield f"images    {len(found.images)}: {shown}{', …' if len(sizes) > _SIZES_SHOWN else ''}"
    labels = [image.labels for image in found.images if image.labels is not None]
    objects = sum(map(len, labels))
    yield f"labels    {f'of {len(labels)} images, {objects} objects' if labels else 'none'}"
    calibration, held_out = found.split(holdout)
    left_out = len(found.images) - len(calibration) - len(held_out)
    yield (
        f"split     {len(calibration)} to calibrate from, {len(held_out)} to judge by, "
        f"{left_out} left out, too like the first to judge by"
    )
    yield f"content   {found.sha256}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
