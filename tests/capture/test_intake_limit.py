"""What the governor lets through of a camera."""

from __future__ import annotations

from typing import Dict, Optional

import pytest

from edge.records import DropCause
from tests.capture.test_intake import Camera


@pytest.mark.parametrize(
    ("cap_fps", "limit_fps", "passed", "dropped"),
    [
        pytest.param(None, None, 100, {}, id="neither"),
        pytest.param(None, 10.0, 100, {}, id="a limit at the camera's own rate"),
        pytest.param(None, 5.0, 50, {DropCause.GOVERNED: 50}, id="half"),
        pytest.param(5.0, 5.0, 50, {DropCause.RATE_CAP: 50}, id="a limit at the cap"),
        pytest.param(
            5.0, 2.5, 25, {DropCause.RATE_CAP: 50, DropCause.GOVERNED: 25}, id="below the cap"
        ),
    ],
)
def test_frames_above_the_limit_are_counted_as_governed(
    cap_fps: Optional[float],
    limit_fps: Optional[float],
    passed: int,
    dropped: Dict[DropCause, int],
) -> None:
    camera = Camera(fps=cap_fps)
    camera.intake.limit_fps(limit_fps)
    camera.take(10, fps=10)
    assert camera.mailbox.received == pytest.approx(passed, abs=1)
    found = dict(camera.mailbox.dropped)
    found.pop(DropCause.SUPERSEDED, None)
    assert found.keys() == dropped.keys()
    for cause, count in dropped.items():
        assert found[cause] == pytest.approx(count, abs=1)


def test_a_limit_comes_and_goes_while_frames_flow() -> None:
    camera = Camera()
    camera.take(1, fps=10)
    camera.intake.limit_fps(1)
    camera.take(10, fps=10)
    limited = camera.mailbox.received - 10
    camera.intake.limit_fps(None)
    camera.take(1, fps=10)
    assert limited == pytest.approx(10, abs=1)
    assert camera.mailbox.received == 20 + limited


def test_a_source_that_comes_back_is_held_to_the_limit_still() -> None:
    camera = Camera()
    camera.intake.limit_fps(1)
    camera.intake.begin()
    camera.take(10, fps=10)
    assert camera.mailbox.received == pytest.approx(10, abs=1)
