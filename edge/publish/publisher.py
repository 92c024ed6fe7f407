"""What the appliance says over MQTT."""

from __future__ import annotations

import threading
from typing import Callable, Dict, Mapping, Optional

from edge.clock import NS_PER_S, Clock, is_clock_synced
from edge.config.schema import MqttConfig
from edge.errors import PublishError
from edge.publish import camera_payload, engine_payload, payload
from edge.publish.envelope import Header, Payload
from edge.publish.link import MqttLink
from edge.publish.payload import Appliance, ApplianceState, ServedModel
from edge.publish.retained import Message
from edge.publish.topics import Topics
from edge.records import (
    CameraCounters,
    CameraStatus,
    EngineStatus,
    FrameResult,
    PublisherCounters,
)
from edge.threads import OnFailure

ONLINE = b"online"
OFFLINE = b"offline"

# Asking the kernel costs more than the rest of a small message.
_SYNC_CHECK_NS = 5 * NS_PER_S


class Publisher:
    """Speaks for one appliance; callable from any thread, never blocks on the broker.

    What describes a condition is retained and survives a broker's restart; detections, stats and
    health pass, and are counted when they cannot.
    """

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        session: int,
        clock: Clock,
        on_failure: OnFailure,
        clock_synced: Callable[[], bool] = is_clock_synced,
    ) -> None:
        self._config = config
        self._device = device
        self._session = session
        self._clock = clock
        self._topics = Topics(config.prefix, device)
        self._link = MqttLink(
            config,
            config.client_id or f"{config.prefix}-{device}".replace("/", "-"),
            self._availability(OFFLINE),
            clock,
            on_failure,
        )
        self._model: Optional[ServedModel] = None
        self._clock_synced = clock_synced
        self._is_clock_synced = False
        self._sync_checked_ns: Optional[int] = None
        # Numbers count per topic, so that whoever subscribes to some sees no gaps of the others.
        # Held from taking a number to handing the message over: on a topic they only rise.
        self._seq_lock = threading.Lock()
        self._seq: Dict[str, int] = {}

    def start(self) -> None:
        """Begins to connect; what is said before the broker answers is retained or counted."""
        self._link.publish(self._availability(ONLINE))
        self._link.start()

    def stop(self, deadline_s: float) -> bool:
        """Delivers what waits, says `offline` and disconnects; False if that took too long."""
        return self._link.stop(self._availability(OFFLINE), deadline_s)

    def publish_state(self, state: ApplianceState, reason: str = "") -> None:
        """Says what the appliance is doing, and why where that needs words."""
        self._retain(
            self._topics.state(), lambda header: payload.state_payload(state, reason, header)
        )

    def publish_info(self, appliance: Appliance) -> None:
        """Says what the appliance is made of; needs model and engine before any detections."""
        self._model = appliance.served_model()
        self._retain(self._topics.info(), lambda header: payload.info_payload(appliance, header))

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

    def publish_camera_stats(self, counters: CameraCounters) -> None:
        """Says how much a camera delivers."""
        self._pass(
            self._topics.camera_stats(counters.status.camera),
            lambda header: camera_payload.camera_stats_payload(counters, header),
        )

    def publish_health(self, readings: Mapping[str, float]) -> None:
        """Says how the device feels: flat names with units, absent where unknown."""
        self._pass(self._topics.health(), lambda header: payload.health_payload(readings, header))

    def publish_detections(self, result: FrameResult) -> None:
        """Tells the objects of one frame; an empty frame only where the config wants it.

        Raises PublishError before `publish_info` has named the model and the engine.
        """
        if not len(result.detections) and not self._config.empty_frames:
            return
        model = self._model
        if model is None:
            raise PublishError("detections came before publish_info named model and engine")
        synced = self._check_clock()
        self._pass(
            self._topics.camera_detections(result.info.camera),
            lambda header: payload.detections_payload(
                result, header, model, is_clock_synced=synced
            ),
            self._config.detections_qos,
        )

    @property
    def last_error(self) -> Optional[str]:
        """Why there is no connection, in words; None while there is one or none was tried."""
        return self._link.last_error

    def counters(self) -> PublisherCounters:
        """What reached the broker and what did not."""
        return self._link.counters()

    def _availability(self, text: bytes) -> Message:
        return Message(self._topics.availability(), text, qos=1, retain=True)

    def _retain(self, topic: str, make: Callable[[Header], Payload]) -> None:
        self._send(topic, make, qos=1, retain=True)

    def _pass(self, topic: str, make: Callable[[Header], Payload], qos: int = 0) -> None:
        self._send(topic, make, qos=qos, retain=False)

    def _send(
        self, topic: str, make: Callable[[Header], Payload], *, qos: int, retain: bool
    ) -> None:
        with self._seq_lock:
            seq = self._seq.get(topic, 0) + 1
            self._seq[topic] = seq
            header = Header(self._device, self._session, seq, self._clock.unix_ms())
            self._link.publish(Message(topic, make(header).to_json(), qos, retain))

    def _check_clock(self) -> bool:
        now_ns = self._clock.monotonic_ns()
        if self._sync_checked_ns is None or now_ns - self._sync_checked_ns >= _SYNC_CHECK_NS:
            self._is_clock_synced = self._clock_synced()
            self._sync_checked_ns = now_ns
        return self._is_clock_synced
