"""The wired line under the governor's hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.records import UNRESTRAINED, CameraState, DropCause, Restraints
from tests.test_live_cameras import Works, camera, reader_of, status_of

PAUSED = Restraints(paused={"dock": "paused by the governor: hot"})


def governed(works: Works, name: str) -> int:
    return works.line.counters().cameras[name].dropped.get(DropCause.GOVERNED, 0)


def test_a_camera_is_slowed_down_and_let_go_without_being_opened_anew(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    dock = reader_of(works, "dock")
    works.wait_for_more("dock")
    works.line.restrain(Restraints(fps={"dock": 5.0}))
    works.wait(lambda: governed(works, "dock") >= 10)
    works.wait_for_more("dock")
    works.line.restrain(UNRESTRAINED)
    works.wait_for_more("dock")
    assert governed(works, "belt") == 0
    assert reader_of(works, "dock") is dock
    works.stop()


def test_a_camera_is_paused_with_the_reason_and_goes_on(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    belt = reader_of(works, "belt")
    works.wait_for_more("dock")
    works.line.restrain(PAUSED)
    works.wait(lambda: status_of(works, "dock").state is CameraState.DISABLED)
    assert status_of(works, "dock").reason == "paused by the governor: hot"
    works.wait_for_more("belt", 10)
    told = len(works.told("dock"))
    works.wait_for_more("belt", 10)
    assert len(works.told("dock")) == told

    works.line.restrain(UNRESTRAINED)
    works.wait_for_more("dock")
    assert status_of(works, "dock").state is CameraState.ONLINE
    assert reader_of(works, "belt") is belt
    works.stop()


def test_what_is_restrained_stays_so_when_the_configuration_changes(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock"), camera("yard")])
    works.line.restrain(Restraints({"yard": 5.0}, window_ms=40.0, paused=PAUSED.paused))
    works.change(camera("belt"), camera("dock", stall_s=9), camera("yard", stall_s=9))
    works.wait(lambda: governed(works, "yard") >= 5)
    assert status_of(works, "dock").state is CameraState.DISABLED
    batching = works.line.counters().batching
    assert batching is not None
    assert batching.window_ms == 40.0
    works.line.restrain(UNRESTRAINED)
    works.wait_for_more("dock")
    works.stop()


def test_where_a_camera_cannot_go_on_the_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    works.wait_for_more("dock")
    works.line.restrain(PAUSED)
    with monkeypatch.context() as patched:

        def fail(*arguments: object) -> None:
            raise ConfigError("no GStreamer")

        patched.setattr("edge.line.source_factory", fail)
        with pytest.raises(ConfigError, match="no GStreamer"):
            works.line.restrain(UNRESTRAINED)
    works.wait_for_more("belt")
    works.line.restrain(UNRESTRAINED)  # as the governor does with its next look
    works.wait_for_more("dock")
    works.stop()
