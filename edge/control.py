"""What each command does to the running appliance.

Part of the composition root, with `app.py`. The handlers run on threads of the desk's; what
touches the line is done on the main loop's.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Tuple

import cv2

from edge.atomic_file import replace_text
from edge.clock import Clock
from edge.commands.desk import Desk
from edge.commands.refusal import Refused
from edge.config.commands import Verb
from edge.config.faults import printable
from edge.config.schema import CameraConfig, Config
from edge.errands import Errands
from edge.errors import CaptureError, ConfigError, PublishError, RestartAsked
from edge.line import Line, Stop
from edge.records import CameraState, CommandResult, Frame, Inbound, Setting
from edge.records.commands import (
    Disable,
    Enable,
    Prioritize,
    Rebuild,
    Reload,
    Request,
    Restart,
    Snapshot,
    Threshold,
)
from edge.running import RunningConfig, first_line
from edge.threads import OnFailure, call_in_thread

log = logging.getLogger(__name__)

Read = Callable[[], Config]
"""Reads the configuration file; raises ConfigError."""

# A camera that is online gives a frame within this time, or is not any more.
_FRAME_S = 10.0
_JPEG_QUALITY = 85

_UNTIL = "until the next restart, or until the configuration is read again"

# In device.state_dir: the request that ended the process before this one.
_RESTART_FILE = "restart.json"


class Gateway(Protocol):
    """What commands need of the publisher."""

    def listen(self, on_inbound: Callable[[Inbound], None]) -> None:
        """Hands over what others ask, from the start on."""

    def publish_command_result(self, result: CommandResult) -> None:
        """Answers a request."""

    def publish_camera_setting(self, camera: str, setting: Setting, text: str) -> None:
        """Says how a key of a camera stands."""

    def publish_snapshot(self, camera: str, jpeg: bytes) -> bool:
        """Shows what a camera sees; False where it cannot."""


@dataclasses.dataclass(frozen=True)
class Reach:
    """What commands take hold of.

    `rebuild` has an engine made anew, `read` reads the configuration, `fail` ends the process.
    """

    running: RunningConfig
    errands: Errands
    publisher: Gateway
    rebuild: Callable[[], str]
    read: Read
    fail: OnFailure


class Control:
    """Listens to commands, where any are allowed, and carries them out."""

    def __init__(self, reach: Reach, clock: Clock) -> None:
        config = reach.running.config
        self._reach = reach
        self._allowed = frozenset(config.commands.allow)
        self._restart_file = config.device.state_dir / _RESTART_FILE
        self._told: Dict[Tuple[str, Setting], str] = {}
        self._actions: Mapping[Verb, Callable[[Any], str]] = {
            Verb.SNAPSHOT: self._snapshot,
            Verb.ENABLE: self._enable,
            Verb.DISABLE: self._disable,
            Verb.PRIORITIZE: self._prioritize,
            Verb.THRESHOLD: self._threshold,
            Verb.REBUILD: self._rebuild,
            Verb.RELOAD: self._reload,
            Verb.RESTART: self._restart,
        }
        answer = reach.publisher.publish_command_result
        self._desk = Desk(config.commands, self.carry_out, answer, clock, reach.fail)

    def start(self, began: Callable[[str, Stop], None]) -> None:
        """Begins to listen; before the publisher starts."""
        if not self._allowed:
            return
        names = ", ".join(sorted(verb.value for verb in self._allowed))
        log.info("commands are taken over MQTT: %s", names)
        restart = _restart_before(self._restart_file)
        if restart is not None:
            self._desk.recall(restart, "it has been restarted")
        self._reach.publisher.listen(self._desk.receive)
        self._desk.start()
        began("commands", self._desk.stop)

    def carry_out(self, request: Request) -> str:
        """Does what is asked for; says so in words. Raises EdgeError."""
        return self._actions[request.verb](request)

    def tell_settings(self) -> None:
        """Publishes the settings of every camera that may be set, where they are new."""
        config = self._reach.running.config
        names = {camera.name for camera in config.cameras}
        self._told = {key: text for key, text in self._told.items() if key[0] in names}
        for camera in config.cameras:
            for setting in Setting:
                text = _setting_text(setting, camera, config)
                key = (camera.name, setting)
                if self._allowed.intersection(setting.verbs) and self._told.get(key) != text:
                    self._told[key] = text
                    self._reach.publisher.publish_camera_setting(camera.name, setting, text)

    def metrics(self) -> Dict[str, float]:
        """What became of all requests, as flat numbers; empty where none are listened to."""
        if not self._allowed:
            return {}
        counters = dataclasses.asdict(self._desk.counters())
        return {f"commands_{name}_total": count for name, count in counters.items()}

    # --- one for each verb --------------------------------------------------------------------

    def _snapshot(self, request: Snapshot) -> str:
        frame = self._next_frame(request.camera)
        is_encoded, data = cv2.imencode(
            ".jpg", frame.image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
        )
        if not is_encoded:
            raise CaptureError(f"camera {request.camera}: its frame cannot be made a JPEG")
        jpeg = data.tobytes()
        if not self._reach.publisher.publish_snapshot(request.camera, jpeg):
            raise PublishError("the broker cannot be reached, or too much waits for it")
        width, height = frame.info.size_wh
        return f"frame {frame.info.frame_id} of {width}x{height}, {len(jpeg)} bytes"

    def _enable(self, request: Enable) -> str:
        return self._change_camera(request.camera, "is enabled", enabled=True)

    def _disable(self, request: Disable) -> str:
        return self._change_camera(request.camera, "is disabled", enabled=False)

    def _prioritize(self, request: Prioritize) -> str:
        words = "has priority" if request.priority else "has no priority"
        return self._change_camera(request.camera, words, priority=request.priority)

    def _threshold(self, request: Threshold) -> str:
        score = request.score
        if request.camera is not None:
            words = f"reports objects scored {score:g} or better"
            return self._change_camera(request.camera, words, score_threshold=score)
        return self._reach.errands.do(lambda: self._set_score(score))

    def _rebuild(self, request: Rebuild) -> str:
        return self._reach.errands.do(self._reach.rebuild)

    def _reload(self, request: Reload) -> str:
        reach = self._reach
        # Read here, as its disk may be slow; taken over, or refused, on the main loop.
        reading = call_in_thread("config", reach.read)
        wait([reading])
        try:
            return reach.errands.do(lambda: reach.running.reload(reading.result))
        except ConfigError as error:
            raise ConfigError(f"all goes on as it was: {first_line(error)}") from error

    def _restart(self, request: Restart) -> str:
        _remember_restart(self._restart_file, request)
        words = f"a restart was asked for ({printable(request.id or '')})"
        self._reach.fail("commands", RestartAsked(words))
        return f"it stops in order, with exit code {RestartAsked.exit_code}"

    # --- their steps --------------------------------------------------------------------------

    def _change_camera(self, name: str, words: str, **keys: object) -> str:
        def change() -> str:
            config = self._reach.running.config
            self._check_name(name)
            cameras = [
                camera.model_copy(update=keys) if camera.name == name else camera
                for camera in config.cameras
            ]
            if cameras == config.cameras:
                return f"camera {name} {words} already"
            remark = self._reach.running.change(config.model_copy(update={"cameras": cameras}))
            return f"camera {name} {words} {_UNTIL}" + (f"; {remark}" if remark else "")

        return self._reach.errands.do(change)

    def _set_score(self, score: float) -> str:
        config = self._reach.running.config
        postprocess = config.postprocess.model_copy(update={"score_threshold": score})
        self._reach.running.change(config.model_copy(update={"postprocess": postprocess}))
        own = [camera.name for camera in config.cameras if camera.score_threshold is not None]
        but = f" but {', '.join(own)}" if own else ""
        return f"every camera{but} reports objects scored {score:g} or better {_UNTIL}"

    def _next_frame(self, camera: str) -> Frame:
        frame: Future[Frame] = Future()

        def ask() -> None:
            self._check_name(camera)
            line = self._reach.running.line
            _check_online(line, camera)
            line.show_next(camera, frame.set_result)

        self._reach.errands.do(ask)
        wait([frame], _FRAME_S)
        if not frame.done():
            raise CaptureError(f"camera {camera} gave no frame within {_FRAME_S:g} s")
        return frame.result()

    def _check_name(self, camera: str) -> None:
        names = [one.name for one in self._reach.running.config.cameras]
        if camera not in names:
            raise Refused(f"there is no camera {camera}; there are: {', '.join(names)}")


def _check_online(line: Line, camera: str) -> None:
    for status in line.statuses():
        if status.camera == camera and status.state is not CameraState.ONLINE:
            reason = f": {status.reason}" if status.reason else ""
            raise Refused(f"camera {camera} is {status.state.value}{reason}")


def _setting_text(setting: Setting, camera: CameraConfig, config: Config) -> str:
    if setting is Setting.SCORE_THRESHOLD:
        own = camera.score_threshold
        return f"{config.postprocess.score_threshold if own is None else own:g}"
    is_on = camera.enabled if setting is Setting.ENABLED else camera.priority
    return "ON" if is_on else "OFF"


# --- a restart that was asked for is not carried out once more by the next process -------------


def _remember_restart(path: Path, request: Restart) -> None:
    try:
        replace_text(path, json.dumps({"id": request.id}))
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): should this request come again after the restart, it "
            "would restart once more",
            path,
            error.strerror,
        )


def _restart_before(path: Path) -> Optional[Restart]:
    try:
        return Restart.model_validate_json(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: damaged, not UTF-8
        log.warning("%s cannot be read, and is of no account: %s", path, error)
        return None
