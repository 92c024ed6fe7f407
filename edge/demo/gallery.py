"""`--save DIR`: annotated frames and a contact sheet, written beside the frame path."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import cv2
import numpy as np

from edge.clock import NS_PER_S
from edge.demo.annotate import annotate, contact_sheet
from edge.errors import ConfigError
from edge.geometry import Image
from edge.records import FrameResult
from edge.threads import OnFailure, SupervisedThread

log = logging.getLogger(__name__)

_PERIOD_NS = NS_PER_S
_QUEUE_FRAMES = 16
_KEPT_PER_CAMERA = 3
_TILE_WH = (480, 330)


@dataclass(frozen=True, eq=False)
class _Picture:
    """An annotated frame and how many objects it shows."""

    title: str
    image: Image
    count: int


class Gallery:
    """Takes at most one frame per camera and second; writes them in its own thread.

    A full queue or a full disk costs pictures, never frames: both are counted.
    """

    def __init__(self, folder: Path, class_names: Callable[[], Sequence[str]]) -> None:
        self._folder = folder
        self._class_names = class_names
        self._last_ns: Dict[str, int] = {}
        self._kept: Dict[str, List[_Picture]] = {}
        self._queue: queue.Queue[Optional[FrameResult]] = queue.Queue(_QUEUE_FRAMES)
        self._thread: Optional[SupervisedThread] = None
        self.written = 0
        self.dropped = 0
        self._disk_error = ""

    def start(self, on_failure: OnFailure) -> None:
        """Makes the folder and starts writing; ConfigError if it cannot be written to."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / ".write-test"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ConfigError(f"--save {self._folder}: {error.strerror}") from error
        self._thread = SupervisedThread("gallery", self._run, on_failure)
        self._thread.start()

    def offer(self, result: FrameResult) -> None:
        """Queues a frame if its camera's turn has come; never blocks."""
        last_ns = self._last_ns.get(result.info.camera)
        if result.image is None or (
            last_ns is not None and result.info.captured_ns - last_ns < _PERIOD_NS
        ):
            return
        self._last_ns[result.info.camera] = result.info.captured_ns
        try:
            self._queue.put_nowait(result)
        except queue.Full:
            self.dropped += 1

    def finish(self, timeout_s: float) -> Dict[str, Any]:
        """Writes what is queued, then the contact sheet; says what was saved and what was not."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        sheet = self._write_sheet()
        return {
            "pictures": self.written,
            "dropped": self.dropped,
            "contact_sheet": None if sheet is None else str(sheet),
        }

    def _write_sheet(self) -> Optional[Path]:
        pictures = [(kept.title, kept.image) for row in self._kept.values() for kept in row]
        if not pictures:
            return None
        path = self._folder / "contact-sheet.jpg"
        sheet = contact_sheet(pictures, _KEPT_PER_CAMERA, _TILE_WH)
        return path if self._write(path, sheet) else None

    def _run(self) -> None:
        while True:
            result = self._queue.get()
            if result is None:
                return
            self._save(result)

    def _save(self, result: FrameResult) -> None:
        if result.image is None:
            return
        info = result.info
        picture = annotate(result.image, result.detections, self._class_names())
        if self._write(self._folder / f"{info.camera}-{info.frame_id:06d}.jpg", picture):
            self.written += 1
        else:
            self.dropped += 1
        self._keep(result, picture)

    def _keep(self, result: FrameResult, picture: Image) -> None:
        """Keeps the fullest frames of each camera for the contact sheet, in order of time."""
        info, count = result.info, len(result.detections)
        kept = self._kept.setdefault(info.camera, [])
        kept.append(
            _Picture(f"{info.camera}  frame {info.frame_id}  {count} found", picture, count)
        )
        if len(kept) > _KEPT_PER_CAMERA:
            kept.remove(min(kept, key=lambda picture: picture.count))

    def _write(self, path: Path, picture: Image) -> bool:
        encoded, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 90))
        partial = path.with_suffix(".part")
        try:
            if not encoded:
                raise OSError("the picture could not be encoded")
            partial.write_bytes(np.asarray(data).tobytes())
            partial.replace(path)
        except OSError as error:
            self._say_once(path, str(error))
            with contextlib.suppress(OSError):
                partial.unlink()
            return False
        return True

    def _say_once(self, path: Path, reason: str) -> None:
        if not self._disk_error:
            free_mb = shutil.disk_usage(self._folder).free // 2**20
            log.error("cannot save %s: %s (%d MB free); counting from here", path, reason, free_mb)
        self._disk_error = reason
