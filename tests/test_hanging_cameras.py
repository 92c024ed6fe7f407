from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Iterator

import pytest

from edge.app import App
from edge.backoff import Backoff
from edge.capture.watchdog import MAX_HANGING
from edge.config.schema import Config
from edge.errors import EXIT_SOFTWARE, CaptureError
from tests.building.tiny_detectors import TinyDetector


@pytest.fixture
def silent_fifo(tmp_path: Path) -> Iterator[Path]:
    """A file that nobody can open: it waits for a writer, who never comes."""
    path = tmp_path / "camera.mp4"
    os.mkfifo(path)
    yield path
    writer = os.open(path, os.O_RDWR)
    path.unlink()  # or FFmpeg, which comes next, would wait for a writer too
    os.close(writer)
    for thread in threading.enumerate():
        if thread.name.startswith("capture-"):
            thread.join(60)


def test_a_driver_that_always_hangs_ends_the_daemon_with_the_reason(
    silent_fifo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.capture.watch._PATIENCE_S", 0.0)
    monkeypatch.setattr("edge.capture.intake.Backoff", lambda rng: Backoff(rng, 0.001, 0.002))
    config = Config.model_validate(
        {
            "device": {"state_dir": tmp_path},
            "model": {"path": TinyDetector().save(tmp_path)},
            "cameras": [
                {"name": "stuck", "uri": str(silent_fifo), "stall_s": 0.1},
                {"name": "well", "uri": "synthetic://1?size=96x64"},
            ],
            "mqtt": {"host": "127.0.0.1", "port": 9},  # nobody answers there
        }
    )
    app = App(config, tmp_path, threading.Event())
    words = rf"^{MAX_HANGING} threads hang in the drivers of cameras \(stuck {MAX_HANGING}\)"
    with pytest.raises(CaptureError, match=words) as caught:
        app.run()
    assert caught.value.exit_code == EXIT_SOFTWARE
    cameras = app.counters().cameras
    assert cameras["stuck"].abandoned == MAX_HANGING
    assert "opening it hung" in cameras["stuck"].status.reason
    assert cameras["well"].abandoned == 0
    assert cameras["well"].frames_inferred > 0
