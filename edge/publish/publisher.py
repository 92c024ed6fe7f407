"""What the appliance says over MQTT."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from edge.clock import NS_PER_S
from edge.config.schema import MqttConfig
from edge.errors import PublishError
from edge.publish import (
    camera_payload,
    command_payload,
    engine_payload,
    event_payload,
    governor_payload,
    outbox_payload,
    payload,
)
from edge.publish.announced import Announced
from edge.publish.counts import CountBoard
from edge.publish.envelope import Header, Payload
from edge.publish.home_assistant import HomeAssistant
from edge.publish.link import MqttLink
from edge.publish.outbox.entry import Kind
from edge.publish.outbox.loss import Loss
from edge.publish.outbox.outbox import Outbox
from edge.publish.payload import Appliance, ApplianceState, ServedModel
from edge.publish.retained import Message
from edge.publish.topics import Topics
from edge.records import (
    Alert,
    CameraCounters,
    CameraState,
    CameraStatus,
    CommandResult,
    EngineStatus,
    Event,
    FrameResult,
    GovernorStatus,
    Inbound,
    MachineReading,
    PublisherCounters,
    Setting,
)
from edge.threads import OnFailure

OnInbound = Callable[[Inbound], None]
"""Gets what others ask of the appliance."""

ONLINE = b"online"
OFFLINE = b"offline"

# How long after connecting the broker may take to tell what an earlier run left behind.
_INHERITING_S = 10.0

# Of the time to stop, what the outbox may need at least to write what it has not written.
_OUTBOX_SHARE = 0.25

# What it gets even where that is over: what was promised is worth half a second.
_LAST_COMMIT_S = 0.5


class Publisher:
    """Speaks for one appliance; callable from any thread, never blocks on the broker.

    What describes a condition is retained and survives a broker's restart; events, and
    detections where that is configured, wait in the outbox for their acknowledgement; other
    detections, stats and health pass, and are counted when they cannot.
    """

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        session: int,
        outbox: Outbox,
        on_failure: OnFailure,
    ) -> None:
        self._config = config
        self._device = device
        self._session = session
        self._outbox = outbox
        self._times = outbox.times
        self._topics = Topics(config.prefix, device)
        self._link = MqttLink(
            config,
            config.client_id_of(device),
            self._availability(OFFLINE),
            outbox,
            self._times.clock,
            on_failure,
        )
        self._model: Optional[ServedModel] = None
        self._cameras: Sequence[str] = ()
        # Held from counting to handing over, so that a topic's last count is the newest.
        self._count_lock = threading.Lock()
        self._counts = CountBoard()
        self._home_assistant = self._announcer(Announced())
        self._link.listen(self._topics.inherited(), self._inherit, _INHERITING_S)
        self._told_of_outbox: Optional[Tuple[str, List[Loss]]] = None
        # Numbers count per topic, so that whoever subscribes to some sees no gaps of the others.
        self._numbers: Dict[str, _Numbers] = {}
        self._frames_told = 0

    def announce_to_home_assistant(self, state_dir: Path) -> None:
        """Remembers in `state_dir` what is announced, and takes back what is no more; before
        `start`."""
        self._home_assistant = self._announcer(Announced(state_dir))
        self._home_assistant.take_back()
        if self._home_assistant.is_on:
            self._link.listen((self._home_assistant.status_topic,), self._announce_again)

    def listen(self, on_inbound: OnInbound) -> None:
        """Hands over what others ask of this appliance; before `start`.

        `on_inbound` is called on the connection's thread and must return at once.
        """

        def hand_over(topic: str, payload: bytes, is_retained: bool) -> None:
            if topic != self._topics.command_result():  # our own answers come back
                on_inbound(Inbound(self._topics.leaf(topic), payload, is_retained))

        self._link.listen(self._topics.requests(), hand_over)

    def start(self) -> None:
        """Begins to connect; what is said before the broker answers is retained or counted."""
        self._outbox.start()
        self._link.publish(self._availability(ONLINE))
        self._link.start()

    def stop(self, deadline_s: float) -> bool:
        """Delivers what waits, says `offline` and disconnects; False if that took too long.

        What the outbox could not deliver is written to its disk.
        """
        clock = self._times.clock
        deadline_ns = clock.monotonic_ns() + int(deadline_s * NS_PER_S)
        is_told = self._link.stop(self._availability(OFFLINE), deadline_s * (1 - _OUTBOX_SHARE))
        left_s = (deadline_ns - clock.monotonic_ns()) / NS_PER_S
        is_kept = self._outbox.stop(max(left_s, _LAST_COMMIT_S))
        return is_told and is_kept

    def publish_state(self, state: ApplianceState, reason: str = "") -> None:
        """Says what the appliance is doing, and why where that needs words."""
        self._retain(
            self._topics.state(), lambda header: payload.state_payload(state, reason, header)
        )

    def publish_info(self, appliance: Appliance) -> None:
        """Says what the appliance is made of; needs model and engine before any detections."""
        self._model = appliance.served_model()
        for camera in set(self._cameras).difference(appliance.cameras):
            self._forget_camera(camera)
        self._cameras = appliance.cameras
        self._counts.expect(appliance.expected)
        self._retain(self._topics.info(), lambda header: payload.info_payload(appliance, header))
        self._home_assistant.introduce(appliance)

    def publish_engine(self, status: EngineStatus) -> None:
        """Says which engine serves and which is being made."""
        self._retain(
            self._topics.engine(), lambda header: engine_payload.engine_payload(status, header)
        )

    def publish_camera_status(self, status: CameraStatus) -> None:
        """Says whether a camera delivers."""
        self._retain(
            self._topics.camera_status(status.camera),
            lambda header: camera_payload.camera_status_payload(status, header),
        )
        with self._count_lock:
            if status.state is CameraState.ONLINE:
                self._counts.deliver(status.camera)
            else:
                self._forget_counts(status.camera)

    def publish_camera_stats(self, counters: CameraCounters) -> None:
        """Says how much a camera delivers."""
        self._pass(
            self._topics.camera_stats(counters.status.camera),
            lambda header: camera_payload.camera_stats_payload(counters, header),
        )

    def publish_camera_setting(self, camera: str, setting: Setting, text: str) -> None:
        """Says how a key of a camera stands."""
        topic = self._topics.camera_setting(camera, setting.value)
        self._link.publish(Message(topic, text.encode(), qos=1, retain=True))

    def publish_command_result(self, result: CommandResult) -> None:
        """Answers a request."""
        self._pass(
            self._topics.command_result(),
            lambda header: command_payload.command_result_payload(result, header),
            qos=1,
        )

    def publish_health(self, reading: MachineReading) -> None:
        """Says how the device feels: flat names with units, absent where unknown."""
        self._pass(self._topics.health(), lambda header: payload.health_payload(reading, header))
        self._home_assistant.read(reading.numbers)

    def publish_detections(self, result: FrameResult) -> None:
        """Tells the objects of one frame; an empty frame only where the config wants it.

        Raises PublishError before `publish_info` has named the model and the engine.
        """
        self._count(result)
        if not len(result.detections) and not self._config.empty_frames:
            return
        model = self._model
        if model is None:
            raise PublishError("detections came before publish_info named model and engine")
        topic = self._topics.camera_detections(result.info.camera)
        synced = self._times.now().is_synced

        def make(header: Header) -> Payload:
            return payload.detections_payload(result, header, model, is_clock_synced=synced)

        if self._outbox.takes_detections:
            is_accepted = self._keep(Kind.DETECTIONS, topic, make)
        else:
            is_accepted = self._pass(topic, make, self._config.detections_qos)
        self._frames_told += is_accepted

    def publish_event(self, event: Event) -> None:
        """Says what an object before a camera does; kept until the broker has it.

        Raises PublishError before `publish_info` has named the model and the engine.
        """
        model = self._model
        if model is None:
            raise PublishError("an event came before publish_info named model and engine")
        synced = self._times.now().is_synced
        self._keep(
            Kind.EVENT,
            self._topics.camera_events(event.frame.camera),
            lambda header: event_payload.event_payload(
                event, header, model, is_clock_synced=synced
            ),
        )

    def publish_snapshot(self, camera: str, jpeg: bytes) -> bool:
        """Shows what a camera sees; False if that was counted as lost."""
        topic = self._topics.camera_snapshot(camera)
        return self._link.publish(Message(topic, jpeg, 0, self._config.snapshot_retain))

    def raise_alert(self, alert: Alert) -> None:
        """Says what somebody must look at, until it is cleared."""
        self._retain(
            self._topics.alert(alert.id),
            lambda header: event_payload.alert_payload(alert, header),
        )

    def clear_alert(self, alert_id: str) -> None:
        """Says that there is nothing to look at any more."""
        self._link.publish(Message(self._topics.alert(alert_id), b"", qos=1, retain=True))

    def publish_governor(self, status: GovernorStatus) -> None:
        """Says what load is shed, and why."""
        self._retain(
            self._topics.governor(),
            lambda header: governor_payload.governor_payload(status, header),
        )

    def publish_outbox(self) -> None:
        """Says what the outbox has lost and why its disk takes nothing, if that has changed."""
        trouble, losses = self._outbox.status().trouble, self._outbox.losses()
        if (trouble, losses) == self._told_of_outbox:
            return
        self._told_of_outbox = (trouble, losses)
        self._retain(
            self._topics.outbox(),
            lambda header: outbox_payload.outbox_payload(trouble, losses, header),
        )

    @property
    def last_error(self) -> Optional[str]:
        """Why there is no connection, in words; None while there is one or none was tried."""
        return self._link.last_error

    @property
    def outbox_trouble(self) -> str:
        """Why the outbox's disk takes nothing, in words; empty while it does."""
        return self._outbox.status().trouble

    def counters(self) -> PublisherCounters:
        """What reached the broker and what did not."""
        return dataclasses.replace(self._link.counters(), frames_told=self._frames_told)

    def _announcer(self, announced: Announced) -> HomeAssistant:
        return HomeAssistant(
            self._config.home_assistant, self._topics, announced, self._link.publish
        )

    def _announce_again(self, topic: str, said: bytes, is_retained: bool) -> None:
        delay_s = self._home_assistant.resend_delay_s(said)
        if delay_s is not None:
            self._link.repeat(self._home_assistant.topic, delay_s)

    def _forget_camera(self, camera: str) -> None:
        with self._count_lock:
            self._forget_counts(camera)
        self._link.clear_under(self._topics.camera_prefix(camera))

    def _inherit(self, topic: str, left: bytes, is_retained: bool) -> None:
        """Clears what an earlier run left of a camera, a class or an alert that is no more."""
        shown = map(self._topics.camera_snapshot, self._cameras)
        is_wanted = self._config.snapshot_retain and topic in shown
        if is_retained and left and not is_wanted:
            self._link.clear_unknown(topic)

    def _count(self, result: FrameResult) -> None:
        model, camera = self._model, result.info.camera
        if model is None or not self._config.counts:
            return
        seen = [model.class_name(number) for number in result.detections.class_ids.tolist()]
        with self._count_lock:
            for level, count in self._counts.news(camera, seen).items():
                self._tell_count(camera, level, b"%d" % count)

    def _forget_counts(self, camera: str) -> None:
        for level in self._counts.forget(camera):
            self._tell_count(camera, level, b"")

    def _tell_count(self, camera: str, level: str, count: bytes) -> None:
        topic = self._topics.camera_count(camera, level)
        self._link.publish(Message(topic, count, qos=1, retain=True))

    def _availability(self, text: bytes) -> Message:
        return Message(self._topics.availability(), text, qos=1, retain=True)

    def _retain(self, topic: str, make: Callable[[Header], Payload]) -> None:
        self._send(topic, make, qos=1, retain=True)

    def _pass(self, topic: str, make: Callable[[Header], Payload], qos: int = 0) -> bool:
        return self._send(topic, make, qos=qos, retain=False)

    def _keep(self, kind: Kind, topic: str, make: Callable[[Header], Payload]) -> bool:
        with self._header(topic) as header:
            return self._link.keep(kind, topic, make(header).to_json())

    def _send(
        self, topic: str, make: Callable[[Header], Payload], *, qos: int, retain: bool
    ) -> bool:
        with self._header(topic) as header:
            return self._link.publish(Message(topic, make(header).to_json(), qos, retain))

    @contextmanager
    def _header(self, topic: str) -> Iterator[Header]:
        """A topic's next number, until its message is handed over: on a topic they only rise."""
        numbers = self._numbers.setdefault(topic, _Numbers())  # one step: no thread comes between
        with numbers.lock:
            numbers.last += 1
            unix_ms = self._times.clock.unix_ms()
            yield Header(self._device, self._session, numbers.last, unix_ms)


class _Numbers:
    """How far a topic has counted. A lock for each: what is long to tell holds up no frame."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last = 0
