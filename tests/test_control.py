"""What commands do to a line that runs, without a broker."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from edge.app import App, Substitutes
from edge.clock import SystemClock
from edge.commands.refusal import Refused
from edge.config.commands import CommandsConfig, Verb
from edge.config.schema import Config
from edge.control import Control, Reach
from edge.errands import Errands
from edge.errors import CaptureError, ConfigError, EdgeError, PublishError, RestartAsked
from edge.records import CameraState, CommandResult, CommandStatus, Inbound, Setting
from edge.records.commands import (
    REQUESTS,
    Disable,
    Enable,
    Prioritize,
    Reload,
    Request,
    Restart,
    Snapshot,
    Threshold,
)
from edge.running import RunningConfig
from edge.threads import call_in_thread
from tests.building.tiny_detectors import TinyDetector
from tests.mosquitto import PATIENCE_S, Broker, Subscriber, wait_for
from tests.test_app import Overlapping
from tests.test_live_cameras import Works, camera, status_of

ALLOW_ALL = {"allow": [verb.value for verb in Verb]}


class Recorder:
    """A gateway that keeps what is published."""

    def __init__(self) -> None:
        self.results: List[CommandResult] = []
        self.settings: Dict[Tuple[str, Setting], List[str]] = {}
        self.snapshots: List[Tuple[str, bytes]] = []
        self.is_reachable = True
        self.receive: Callable[[Inbound], None] = lambda message: None

    def listen(self, on_inbound: Callable[[Inbound], None]) -> None:
        self.receive = on_inbound

    def publish_command_result(self, result: CommandResult) -> None:
        self.results.append(result)

    def publish_camera_setting(self, camera: str, setting: Setting, text: str) -> None:
        self.settings.setdefault((camera, setting), []).append(text)

    def publish_snapshot(self, camera: str, jpeg: bytes) -> bool:
        self.snapshots.append((camera, jpeg))
        return self.is_reachable


class Plant:
    """A line, a control of it, and a main loop that turns while a request is carried out."""

    def __init__(self, folder: Path, *cameras: Dict[str, object], **sections: object) -> None:
        self.works = Works(folder, list(cameras), commands=ALLOW_ALL, **sections)
        self.file = self.works.config(list(cameras))
        self.recorder = Recorder()
        self.errands = Errands()
        self.running = RunningConfig(self.file, lambda: self.control.tell_settings())
        self.failures: List[BaseException] = []
        reach = Reach(
            self.running,
            self.errands,
            self.recorder,
            lambda: "it is made anew",
            self.read,
            lambda name, error: self.failures.append(error),
        )
        self.control = Control(reach, SystemClock())
        self.running.serve(self.works.line)
        self.errands.open()

    def read(self) -> Config:
        return self.file

    def do(self, request: Request) -> str:
        """Has it carried out on a thread of its own, as the desk does."""
        done = call_in_thread("command", lambda: self.control.carry_out(request))
        while not done.done():
            self.errands.run()
            self.works.line.observe()
        return done.result()

    def setting(self, camera: str, setting: Setting) -> List[str]:
        return self.recorder.settings.get((camera, setting), [])


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Callable[..., Plant]]:
    made: List[Plant] = []

    def make(*cameras: Dict[str, object], **sections: object) -> Plant:
        made.append(Plant(tmp_path, *cameras, **sections))
        return made[-1]

    yield make
    for one in made:
        one.works.stop()


def test_every_verb_has_something_to_do(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"))
    assert set(one.control._actions) == set(REQUESTS) == set(Verb)


def test_what_is_set_is_published_where_it_changes(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"), camera("dock", priority=True, score_threshold=0.5))
    one.control.tell_settings()
    one.control.tell_settings()
    assert one.setting("belt", Setting.PRIORITY) == ["OFF"]
    assert one.setting("dock", Setting.PRIORITY) == ["ON"]
    assert one.do(Threshold(score=0.125)) == (
        "every camera but dock reports objects scored 0.125 or better until the next restart, or "
        "until the configuration is read again"
    )
    assert one.setting("belt", Setting.SCORE_THRESHOLD) == ["0.25", "0.125"]
    assert one.setting("dock", Setting.SCORE_THRESHOLD) == ["0.5"]
    one.do(Disable(camera="belt"))
    one.do(Prioritize(camera="dock", priority=False))
    assert one.setting("belt", Setting.ENABLED) == ["ON", "OFF"]
    assert one.setting("dock", Setting.PRIORITY) == ["ON", "OFF"]
    assert status_of(one.works, "belt").state is CameraState.DISABLED


def test_reading_the_file_again_undoes_what_was_set(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"))
    one.do(Disable(camera="belt"))
    assert one.do(Enable(camera="belt")).startswith("camera belt is enabled until")
    assert one.do(Enable(camera="belt")) == "camera belt is enabled already"
    assert one.do(Reload()) == "nothing changes"
    one.do(Threshold(camera="belt", score=0.75))
    assert one.do(Reload()) == "changed belt"
    assert one.setting("belt", Setting.SCORE_THRESHOLD) == ["0.25", "0.75", "0.25"]
    one.file = one.works.config([camera("belt"), camera("dock")])
    one.file = one.file.model_copy(
        update={"device": one.file.device.model_copy(update={"id": "x"})}
    )
    assert one.do(Reload()) == "added dock; a restart is needed for device.id"
    one.works.wait_for_more("dock")


def test_a_removed_camera_that_comes_back_is_told_anew(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"), camera("dock"))
    one.control.tell_settings()
    for cameras in ([camera("belt")], [camera("belt"), camera("dock")]):
        one.file = one.works.config(cameras)
        one.do(Reload())
    assert one.setting("dock", Setting.ENABLED) == ["ON", "ON"]
    assert one.setting("belt", Setting.ENABLED) == ["ON"]


@pytest.mark.parametrize(
    "request_",
    [Snapshot(camera="gate"), Enable(camera="gate"), Threshold(camera="gate", score=0.5)],
    ids=lambda request: request.verb.value,
)
def test_a_camera_that_is_not_there(plant: Callable[..., Plant], request_: Request) -> None:
    one = plant(camera("belt"), camera("dock"))
    with pytest.raises(Refused, match="there is no camera gate; there are: belt, dock"):
        one.do(request_)


def test_what_contradicts_the_configuration_is_not_done(plant: Callable[..., Plant]) -> None:
    fast = camera("belt", priority=True, max_staleness_ms=4)
    one = plant(fast, camera("dock"), batching={"target": 4, "max_wait_ms": 5})
    with pytest.raises(ConfigError, match=r"cameras\[0\]\.max_staleness_ms: "):
        one.do(Prioritize(camera="belt", priority=False))
    assert one.running.config.cameras[0].priority
    assert one.setting("belt", Setting.PRIORITY) == []


def test_what_a_change_lacks_is_added_to_the_answer(
    plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_on_a_gpu(config: Config, in_flight: int) -> bool:
        return any(one.priority for one in config.cameras)

    monkeypatch.setattr("edge.running.needs_priority_engine", as_on_a_gpu)
    one = plant(camera("belt"))
    remark = "; priority frames share the engine: one of their own needs a restart"
    assert one.do(Prioritize(camera="belt")).endswith(remark)
    assert one.do(Prioritize(camera="belt", priority=False)).endswith("read again")


def test_a_snapshot(plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch) -> None:
    one = plant(camera("belt"), camera("dock", enabled=False))
    one.works.wait_for_more("belt")
    words = one.do(Snapshot(camera="belt"))
    ((name, jpeg),) = one.recorder.snapshots
    assert (name, jpeg[:3]) == ("belt", b"\xff\xd8\xff")
    assert words.endswith(f" of 96x64, {len(jpeg)} bytes")
    with pytest.raises(Refused, match="camera dock is disabled"):
        one.do(Snapshot(camera="dock"))
    one.recorder.is_reachable = False
    with pytest.raises(PublishError, match="the broker cannot be reached"):
        one.do(Snapshot(camera="belt"))


def test_a_snapshot_of_a_camera_that_gives_no_frame(
    plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.control._FRAME_S", 0.05)
    one = plant(camera("belt", fps=0.01, stall_s=600))
    one.works.wait_for_more("belt", 1)
    with pytest.raises(CaptureError, match=r"camera belt gave no frame within 0\.05 s"):
        one.do(Snapshot(camera="belt"))
    assert one.recorder.snapshots == []


def test_a_file_that_is_wrong_is_answered_in_one_line(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"))

    def fail() -> Config:
        raise ConfigError("c.yaml:1:1 a: is wrong\nc.yaml:2:1 b: is wrong too")

    one.read = fail  # type: ignore[method-assign]
    reach = Reach(one.running, one.errands, one.recorder, str, fail, lambda name, error: None)
    one.control = Control(reach, SystemClock())
    with pytest.raises(ConfigError) as caught:
        one.do(Reload())
    assert str(caught.value) == "all goes on as it was: c.yaml:1:1 a: is wrong and 1 more"
    assert one.running.notice == "new configuration refused: c.yaml:1:1 a: is wrong and 1 more"


# --- restart ----------------------------------------------------------------------------------


def test_a_restart_is_remembered_by_the_next_process(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"))
    assert one.do(Restart(id="now\n")) == "it stops in order, with exit code 75"
    (failure,) = one.failures
    assert isinstance(failure, RestartAsked)
    assert str(failure) == "a restart was asked for (now\\n)"

    answers = answers_after_start(one, r'{"id": "now\n"}')
    assert [(answer.status, answer.is_repeated) for answer in answers] == [
        (CommandStatus.DONE, True)
    ]
    assert len(one.failures) == 1


def answers_after_start(one: Plant, payload: str) -> List[CommandResult]:
    """What a new process answers to this restart."""
    reach = Reach(
        one.running,
        one.errands,
        one.recorder,
        str,
        one.read,
        lambda name, error: one.failures.append(error),
    )
    stops: List[Callable[[float], bool]] = []
    Control(reach, SystemClock()).start(lambda name, stop: stops.append(stop))
    one.recorder.receive(Inbound("cmd/restart", payload.encode()))
    wait_for(lambda: one.recorder.results, "the answer")
    assert all(stop(PATIENCE_S) for stop in stops)
    return one.recorder.results


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"id": 7}', b'{"ids": "now"}'])
def test_a_damaged_memory_is_no_memory(
    plant: Callable[..., Plant],
    content: bytes,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = plant(camera("belt"))
    (tmp_path / "restart.json").write_bytes(content)
    answers = answers_after_start(one, '{"id": "now"}')
    assert [(answer.status, answer.is_repeated) for answer in answers] == [
        (CommandStatus.DONE, False)
    ]
    assert "restart.json cannot be read" in caplog.text


def test_a_restart_goes_on_where_nothing_can_be_written(
    plant: Callable[..., Plant], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = plant(camera("belt"))
    (tmp_path / "restart.json").mkdir()
    one.do(Restart(id="now"))
    assert len(one.failures) == 1
    assert "restart.json cannot be written" in caplog.text


def test_nobody_listens_where_nothing_is_allowed(plant: Callable[..., Plant]) -> None:
    one = plant(camera("belt"))
    file = one.file.model_copy(update={"commands": CommandsConfig()})
    running = RunningConfig(file, lambda: None)
    reach = Reach(running, one.errands, one.recorder, str, one.read, lambda name, error: None)
    before = one.recorder.receive
    began: List[str] = []
    control = Control(reach, SystemClock())
    control.start(lambda name, stop: began.append(name))
    control.tell_settings()
    assert one.recorder.receive is before
    assert (began, one.recorder.settings, control.metrics()) == ([], {}, {})


# --- the whole daemon, and a command that hangs -------------------------------------------------


def test_a_reading_that_hangs_holds_up_neither_frames_nor_other_commands_nor_the_stop(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    config = Config.model_validate(
        {
            "device": {"id": "nx", "state_dir": tmp_path},
            "model": {"path": TinyDetector().save(tmp_path)},
            "cameras": [camera("belt")],
            "mqtt": {"host": broker.host, "port": broker.port},
            "commands": {"allow": ["reload", "disable"]},
        }
    )
    gateway = subscribe("edge/nx/cmd/result")
    stop, is_reading, released = threading.Event(), threading.Event(), threading.Event()
    app = App(config, tmp_path, stop, substitutes=Substitutes(Overlapping()))

    def read() -> Config:
        is_reading.set()
        assert released.wait(PATIENCE_S)
        raise EdgeError("nobody waits for this any more")

    frames: List[int] = []

    def on_tick() -> None:
        count = app.counters().frames_inferred
        if not frames:
            broker.publish("edge/nx/cmd/reload", '{"id": "hangs"}')
            frames.append(count)
        elif is_reading.is_set() and len(frames) == 1:
            broker.publish("edge/nx/cmd/disable", '{"id": "waits", "camera": "belt"}')
            frames.append(count)
        elif len(frames) == 2 and count > frames[1] + 5:
            stop.set()

    app.run(on_tick, read)
    released.set()
    gateway.wait_for(lambda: len(gateway.messages) == 2, "both answers")
    answers: Dict[str, Dict[str, Any]] = {
        answer["id"]: answer for answer in (json.loads(m.payload) for m in gateway.messages)
    }
    assert answers["waits"]["status"] == "refused"
    assert answers["waits"]["message"] == "the appliance is stopping"
    assert answers["hangs"]["status"] == "failed"
    assert "nobody knows whether it was done" in answers["hangs"]["message"]
