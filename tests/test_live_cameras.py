"""The wired line whose cameras come, go and change while frames flow."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import station
from edge.backoff import Backoff
from edge.batching.ring import allocate_pageable
from edge.building.graph import deploy
from edge.capture.source import Picture
from edge.clock import NS_PER_S, SystemClock
from edge.config.camera_uri import V4l2Spec
from edge.config.schema import CameraConfig, Config, EngineConfig
from edge.errors import CaptureError, ConfigError, EngineOutOfMemory
from edge.geometry import Image
from edge.line import Detector, Hooks, Line, LineOptions, Stop, render_scene
from edge.records import (
    BatchSetting,
    CameraState,
    CameraStatus,
    DropCause,
    FrameResult,
    Lane,
)
from tests.building.tiny_detectors import TinyDetector
from tests.test_line import HANG_S, assert_every_frame_is_accounted_for
from tests.test_priority_line import Held

CPU = EngineConfig(threads=1)


def camera(name: str, **keys: object) -> Dict[str, object]:
    seed = sum(name.encode()) % 50
    return {"name": name, "uri": f"synthetic://{seed}?size=96x64", "fps": 20, **keys}


class Works:
    """A running line, its configuration, and what it tells."""

    def __init__(self, folder: Path, cameras: List[Dict[str, object]], **sections: object) -> None:
        self._folder = folder
        self._model = TinyDetector().save(folder)
        self.sections = sections
        self.results: List[FrameResult] = []
        self.statuses: List[CameraStatus] = []
        self.failures: List[str] = []
        self.allocations = 0
        self.fails_to_allocate = False
        self.opened: List[int] = []
        self._parts: List[Stop] = []
        config = self.config(cameras)
        graph = deploy(config.model.path, config.model)
        hooks = Hooks(
            self.results.append,
            self.statuses.append,
            lambda thread, error: self.failures.append(f"{thread}: {error}"),
            lambda cap: None,
        )
        self.engine = Held(graph, CPU)
        detector = Detector(graph, self.engine, self._allocate)
        options = LineOptions(renderer=self._render)
        self.line = Line(config, folder, detector, SystemClock(), hooks, options)
        self.line.start(lambda name, stop: self._parts.append(stop))

    def config(self, cameras: List[Dict[str, object]]) -> Config:
        sections = {"batching": {"target": 4, "max_wait_ms": 5}, **self.sections}
        return Config.model_validate(
            {
                "device": {"state_dir": self._folder},
                "model": {"path": self._model},
                "cameras": cameras,
                **sections,
            }
        )

    def change(self, *cameras: Dict[str, object]) -> None:
        self.line.apply(self.config(list(cameras)))

    def wait(self, condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + HANG_S
        while not condition():
            assert time.monotonic() < deadline_s, (self.line.counters(), self.failures)
            time.sleep(0.01)
            self.line.observe()

    def told(self, name: str) -> List[FrameResult]:
        return [result for result in list(self.results) if result.info.camera == name]

    def wait_for_more(self, name: str, count: int = 3) -> None:
        before = len(self.told(name))
        self.wait(lambda: len(self.told(name)) >= before + count)

    def wait_for_lane(self, name: str, lane: Lane) -> None:
        self.wait(lambda: self.told(name)[-1].batch.lane is lane)

    def abandoned(self) -> int:
        return sum(camera.abandoned for camera in self.line.counters().cameras.values())

    def stop(self) -> None:
        assert all([stop(HANG_S) for stop in reversed(self._parts)])
        assert self.failures == []
        assert self.line.counters().in_flight == 0
        assert_every_frame_is_accounted_for(self.line.counters())

    def _allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        if self.fails_to_allocate:
            raise EngineOutOfMemory("no room for another slot")
        self.allocations += 1
        return allocate_pageable(shape)

    def _render(self, seed: int, size_wh: Tuple[int, int]) -> Callable[[int], Image]:
        self.opened.append(seed)
        return render_scene(seed, size_wh)


def assert_gapless(works: Works, name: str) -> None:
    """Each frame came out or is counted, in order: as nobody is slow here, none was replaced."""
    ids = [result.info.frame_id for result in works.told(name)]
    assert ids == sorted(set(ids))
    counters = works.line.counters().cameras[name]
    dropped = sum(counters.dropped.values())
    assert set(range(counters.frames_read)).issuperset(ids)
    assert len(ids) + dropped == counters.frames_read


def reader_of(works: Works, name: str) -> object:
    return works.line._roster._stations[name].post.reader


def status_of(works: Works, name: str) -> CameraStatus:
    return [status for status in works.statuses if status.camera == name][-1]


def test_a_camera_is_added_and_removed_and_the_other_does_not_notice(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt")])
    belt = reader_of(works, "belt")
    works.wait_for_more("belt")
    works.change(camera("belt"), camera("dock"))
    works.wait_for_more("dock")
    assert [status.camera for status in works.line.statuses()] == ["belt", "dock"]
    read = works.line.counters().cameras["dock"].frames_read

    works.change(camera("belt"))
    status = status_of(works, "dock")
    assert (status.state, status.reason) == (CameraState.DISABLED, "removed")
    assert [status.camera for status in works.line.statuses()] == ["belt"]
    works.wait_for_more("belt", 10)
    assert status_of(works, "dock") is status

    works.change(camera("dock"), camera("belt"))
    assert [status.camera for status in works.line.statuses()] == ["dock", "belt"]
    works.wait_for_more("dock")
    assert works.line.counters().cameras["dock"].frames_read > read
    assert reader_of(works, "belt") is belt
    works.stop()
    assert_gapless(works, "belt")
    assert works.opened.count(sum(b"belt") % 50) == 1


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"fps": 30}, id="fps"),
        pytest.param({"uri": "synthetic://3?size=64x96"}, id="uri"),
        pytest.param({"stall_s": 9}, id="stall_s"),
    ],
)
def test_a_camera_that_changed_is_opened_anew_and_no_other(
    tmp_path: Path, keys: Dict[str, object]
) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    before = {name: reader_of(works, name) for name in ("belt", "dock")}
    works.wait_for_more("dock")
    works.change(camera("belt"), camera("dock", **keys))
    works.wait_for_more("dock")
    assert reader_of(works, "belt") is before["belt"]
    assert reader_of(works, "dock") is not before["dock"]
    works.stop()
    assert_gapless(works, "belt")
    assert_gapless(works, "dock")  # no id twice


def test_a_camera_is_disabled_and_enabled(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    works.wait_for_more("dock")
    works.change(camera("belt"), camera("dock", enabled=False))
    works.wait(lambda: status_of(works, "dock").state is CameraState.DISABLED)
    assert status_of(works, "dock").reason == ""
    told = len(works.told("dock"))
    works.wait_for_more("belt", 10)
    assert len(works.told("dock")) == told
    works.change(camera("belt"), camera("dock"))
    works.wait_for_more("dock")
    assert status_of(works, "dock").state is CameraState.ONLINE
    works.stop()


def test_a_camera_changes_its_lane_with_its_reader_and_its_order(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    readers = {name: reader_of(works, name) for name in ("belt", "dock")}
    allocations = works.allocations
    for _ in range(3):
        for is_priority, lane in ((True, Lane.PRIORITY), (False, Lane.BATCH)):
            works.wait_for_more("dock")
            works.change(camera("belt"), camera("dock", priority=is_priority, deadline_ms=500))
            works.wait_for_lane("dock", lane)
    # One set of slots of its own, however often it comes back: memory on a GPU is never freed.
    assert works.allocations == allocations + works.line.in_flight + 2
    assert {name: reader_of(works, name) for name in readers} == readers
    works.stop()
    for name in readers:
        assert_gapless(works, name)


@pytest.mark.parametrize("was_priority", [False, True], ids=["to priority", "from priority"])
def test_no_frame_overtakes_one_that_took_the_other_lane(
    tmp_path: Path, was_priority: bool
) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock", priority=was_priority)])
    works.wait_for_more("dock")
    works.engine.is_free.clear()
    wait_for_frames(works, "dock", 5)
    works.change(camera("belt"), camera("dock", priority=not was_priority))
    wait_for_frames(works, "dock", 5)
    works.engine.is_free.set()
    lane = Lane.BATCH if was_priority else Lane.PRIORITY
    works.wait_for_lane("dock", lane)
    works.wait_for_more("dock")
    works.stop()
    assert_gapless(works, "dock")
    assert_gapless(works, "belt")


def wait_for_frames(works: Works, name: str, count: int) -> None:
    def frames_read() -> int:
        return works.line.counters().cameras[name].frames_read

    enough = frames_read() + count
    works.wait(lambda: frames_read() >= enough)


def test_what_cannot_be_had_changes_nothing(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    readers = {name: reader_of(works, name) for name in ("belt", "dock")}
    works.wait_for_more("dock")
    works.fails_to_allocate = True
    with pytest.raises(EngineOutOfMemory, match="no room"):
        works.change(camera("gate", priority=True), camera("belt", fps=5))
    works.fails_to_allocate = False
    works.sections = {"postprocess": {"classes": ["unicorn"]}}
    with pytest.raises(ConfigError, match="unicorn"):
        works.change(camera("belt", fps=5))
    assert {name: reader_of(works, name) for name in readers} == readers
    assert [status.camera for status in works.line.statuses()] == ["belt", "dock"]
    works.wait_for_more("dock")
    works.sections = {}
    works.change(camera("gate", priority=True), camera("belt"), camera("dock"))
    works.wait_for_more("gate")
    works.stop()
    for name in readers:
        assert_gapless(works, name)


def test_postprocess_and_the_longest_wait_change_for_all(tmp_path: Path) -> None:
    works = Works(tmp_path, [camera("belt"), camera("dock")])
    works.wait(lambda: any(len(result.detections) for result in list(works.results)))
    works.sections = {
        "postprocess": {"score_threshold": 1.0},
        "batching": {"target": 4, "max_wait_ms": 7},
    }
    works.change(camera("belt"), camera("dock"))
    changed = len(works.results) + 4  # what was in the middle of it
    works.wait(lambda: len(works.results) > changed + 20)
    assert not any(len(result.detections) for result in works.results[changed:])
    assert works.line.counters().batching == BatchSetting(4, 7.0)
    works.stop()


def test_live_tuning_starts_anew_with_what_the_cameras_can_fill(tmp_path: Path) -> None:
    batching = {"target": 8, "max_wait_ms": 5, "tune": True}
    works = Works(tmp_path, [camera("belt")], batching=batching)
    assert works.line.counters().tuned == BatchSetting(1, 5.0)
    works.change(camera("belt"), camera("dock"), camera("gate", priority=True))
    assert works.line.counters().tuned == BatchSetting(2, 5.0)
    works.wait_for_more("gate")
    works.stop()


class Stuck:
    """A source whose driver holds its thread until it is released."""

    def __init__(self, released: threading.Event) -> None:
        self._released = released

    def open(self) -> None:
        assert self._released.wait(HANG_S)

    def read(self) -> Optional[Picture]:
        return None

    def close(self) -> None:
        """Nothing is open."""


def test_a_camera_whose_driver_holds_its_thread_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    works = Works(tmp_path, [camera("belt")])
    with monkeypatch.context() as patch:
        patch.setattr("edge.line.source_factory", lambda *_: lambda: Stuck(released))
        works.change(camera("belt"), camera("dock"))
        works.wait(lambda: "capture-dock" in capture_threads())
    works.change(camera("belt"), camera("dock", fps=25))
    works.wait_for_more("dock")
    assert len(works.line._roster._stations["dock"].gone) == 1
    released.set()
    works.wait(lambda: not works.line._roster._stations["dock"].gone)
    assert status_of(works, "dock").state is CameraState.ONLINE
    works.stop()


class Device:
    """Can be opened by one reader at a time, and takes its time to be closed."""

    def __init__(self) -> None:
        self.refused = 0
        self._holder: Optional[ExclusiveSource] = None
        self._lock = threading.Lock()

    def take(self, source: ExclusiveSource) -> None:
        with self._lock:
            if self._holder is not None:
                self.refused += 1
                raise CaptureError("in use by another program")
            self._holder = source

    def give_back(self, source: ExclusiveSource) -> None:
        if self._holder is source:
            time.sleep(0.5)
            self._holder = None


class ExclusiveSource:
    def __init__(self, device: Device) -> None:
        self._device = device

    def open(self) -> None:
        self._device.take(self)

    def read(self) -> Picture:
        time.sleep(0.05)
        return Picture(np.zeros((64, 96, 3), np.uint8))

    def close(self) -> None:
        self._device.give_back(self)


def usb(name: str, device: str, **keys: object) -> Dict[str, object]:
    return {"name": name, "uri": device, **keys}


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([usb("yard", "/dev/video7"), usb("gate", "/dev/video8")], id="renamed"),
        pytest.param([usb("dock", "/dev/video8"), usb("gate", "/dev/video7")], id="swapped"),
        pytest.param([usb("dock", "/dev/video7", fps=9), usb("gate", "/dev/video8")], id="changed"),
    ],
)
def test_a_device_is_let_go_before_another_reader_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: List[Dict[str, object]]
) -> None:
    devices = {Path(f"/dev/video{number}"): Device() for number in (7, 8)}

    def factory(config: CameraConfig, *_: object) -> Callable[[], ExclusiveSource]:
        spec = config.uri.resolve(Path())
        assert isinstance(spec, V4l2Spec)
        return lambda: ExclusiveSource(devices[spec.device])

    monkeypatch.setattr("edge.line.source_factory", factory)
    works = Works(tmp_path, [usb("dock", "/dev/video7"), usb("gate", "/dev/video8")])
    works.wait_for_more("dock")
    works.change(*after)
    for camera_now in after:
        # Told at once, although the reader has to wait.
        name = str(camera_now["name"])
        assert name == "gate" or status_of(works, name).state is CameraState.STARTING
        works.wait_for_more(name)
    assert [device.refused for device in devices.values()] == [0, 0]
    assert CameraState.OFFLINE not in {status.state for status in works.statuses}
    works.stop()


def test_who_waits_for_a_device_that_is_never_let_go_tries_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "_PATIENCE_NS", NS_PER_S // 2)
    released, device = threading.Event(), Device()
    works = Works(tmp_path, [camera("belt")])
    with monkeypatch.context() as patch:
        patch.setattr("edge.line.source_factory", lambda *_: lambda: Stuck(released))
        works.change(camera("belt"), usb("dock", "/dev/video7"))
        works.wait(lambda: "capture-dock" in capture_threads())
    with monkeypatch.context() as patch:
        patch.setattr("edge.line.source_factory", lambda *_: lambda: ExclusiveSource(device))
        works.change(camera("belt"), usb("yard", "/dev/video7"))
        works.wait_for_more("yard")
    released.set()
    works.stop()


def test_hanging_threads_of_present_and_removed_cameras_count_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them holds a decoder, whoever it was for."""
    monkeypatch.setattr(station, "_LEAVING_NS", 0)
    monkeypatch.setattr("edge.capture.watch._PATIENCE_S", 0.0)
    monkeypatch.setattr("edge.capture.intake.Backoff", lambda rng: Backoff(rng, 30.0, 30.0))
    released = threading.Event()
    works = Works(tmp_path, [camera("belt")])
    removed = [camera(f"gone{number}", stall_s=600) for number in range(4)]
    present = [camera(f"here{number}", stall_s=0.1) for number in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr("edge.line.source_factory", lambda *_: lambda: Stuck(released))
        works.change(camera("belt"), *removed, *present[:3])
        works.wait(lambda: works.abandoned() == 3 and "capture-gone3" in capture_threads())
        works.change(camera("belt"), *present[:3])
        works.line.observe()
        assert works.failures == []
        works.change(camera("belt"), *present)
        works.wait(lambda: works.failures)
    assert works.failures[0].startswith("capture: 8 threads hang in the drivers of cameras (")
    assert "here0 1" in works.failures[0]
    assert "gone0 1" in works.failures[0]
    released.set()
    works.wait(lambda: not any(s.gone for s in works.line._roster._stations.values()))
    works.failures.clear()
    works.stop()


def test_too_many_that_were_left_behind_end_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(station, "_LEAVING_NS", NS_PER_S // 2)
    works = Works(tmp_path, [camera("belt")])
    with monkeypatch.context() as patch:
        patch.setattr("edge.line.source_factory", lambda *_: lambda: Stuck(released))
        names = [f"dock{number}" for number in range(8)]
        works.change(camera("belt"), *map(camera, names))
        works.wait(lambda: {f"capture-{name}" for name in names} <= set(capture_threads()))
    works.change(camera("belt"), *map(camera, names[1:]))
    works.line.observe()
    assert works.failures == []
    works.change(camera("belt"))
    works.wait(lambda: works.failures)
    assert works.failures[0].startswith("capture: 8 threads hang in the drivers of cameras")
    released.set()
    works.failures.clear()
    works.wait(lambda: not any(s.gone for s in works.line._roster._stations.values()))
    works.failures.clear()
    works.stop()


def capture_threads() -> List[str]:
    names = (thread.name for thread in threading.enumerate())
    return sorted(name for name in names if name.startswith("capture-"))


VARIANTS = st.fixed_dictionaries(
    {
        "enabled": st.sampled_from([True, True, False]),
        "priority": st.booleans(),
        "fps": st.sampled_from([20, 40]),
        "max_staleness_ms": st.sampled_from([None, 5000]),
    }
)
CHANGES = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), VARIANTS), min_size=50, max_size=50
)


@settings(max_examples=3, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(changes=CHANGES)
def test_fifty_changes_lose_no_frame_and_keep_the_others_in_order(
    tmp_path_factory: pytest.TempPathFactory, changes: List[Dict[str, Dict[str, object]]]
) -> None:
    still = [camera("belt"), camera("gate", priority=True)]
    works = Works(tmp_path_factory.mktemp("works"), still)
    readers = {name: reader_of(works, name) for name in ("belt", "gate")}
    for cameras in changes:
        others = [camera(name, **keys) for name, keys in cameras.items()]
        works.change(*others, *still)
        works.wait_for_more("belt", 1)
    assert {name: reader_of(works, name) for name in readers} == readers
    works.change(*still)
    works.wait(lambda: capture_threads() == ["capture-belt", "capture-gate"])
    works.stop()
    for name in readers:
        assert_gapless(works, name)
        dropped = works.line.counters().cameras[name].dropped
        assert set(dropped) <= {DropCause.SUPERSEDED, DropCause.ABORTED}
        assert dropped.get(DropCause.ABORTED, 0) <= 1  # what waited at the end
    counters = works.line.counters()
    assert counters.frames_inferred == len(works.results)
    # Never more slots than cameras of priority at once: four others and the gate.
    per_ring = works.line.in_flight + 2
    assert works.allocations <= 2 + 5 * per_ring
