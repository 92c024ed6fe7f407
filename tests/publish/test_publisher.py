"""The publisher at a real broker, as a real subscriber sees it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Callable, List

import psutil
import pytest

from edge.errors import PublishError
from edge.publish.payload import ApplianceState
from edge.publish.publisher import Publisher
from edge.records import CameraState, Detections
from tests.contract import check_contract
from tests.mosquitto import Broker, Subscriber, wait_for
from tests.publish import samples

AVAILABILITY = "edge/nx/availability"
STATE = "edge/nx/state"
INFO = "edge/nx/info"
STATUS = "edge/nx/camera/dock1/status"
STATS = "edge/nx/camera/dock1/stats"
HEALTH = "edge/nx/health"
DETECTIONS = "edge/nx/camera/dock1/detections"
BIRTH = [STATE, INFO, STATUS, AVAILABILITY]

MakePublisher = Callable[..., Publisher]
Subscribe = Callable[..., Subscriber]


def describe(publisher: Publisher) -> None:
    publisher.publish_state(ApplianceState.READY)
    publisher.publish_info(samples.appliance())
    publisher.publish_camera_status(samples.camera_status())


def start(publisher: Publisher) -> Publisher:
    """Starts and describes it, and returns once the broker has everything."""
    publisher.start()
    describe(publisher)
    settle(publisher)
    return publisher


def settle(publisher: Publisher) -> None:
    def settled() -> bool:
        counters = publisher.counters()
        return counters.connected and counters.queued == 0

    wait_for(settled, "the publisher to have delivered everything")


def stored(broker: Broker) -> dict[str, str]:
    """What the broker remembers, as a newcomer gets it."""
    newcomer = Subscriber(broker, "edge/#")
    try:
        newcomer.wait_for(lambda: len(newcomer.messages) >= len(BIRTH), "the retained messages")
        return {message.topic: message.payload for message in newcomer.messages if message.retain}
    finally:
        newcomer.close()


def test_birth_ends_with_online_and_survives_for_newcomers(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe("edge/#")
    publisher = make_publisher(broker)
    describe(publisher)
    start(publisher)
    witness.wait_for(lambda: witness.on(AVAILABILITY), "the birth")
    assert [message.topic for message in witness.messages][:4] == BIRTH
    assert witness.payloads(AVAILABILITY)[0] == "online"
    retained = stored(broker)
    assert sorted(retained) == sorted(BIRTH)
    assert retained[AVAILABILITY] == "online"
    assert json.loads(retained[STATE])["state"] == "ready"


def test_every_kind_of_message_is_valid_and_numbered(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe("edge/#")
    publisher = start(make_publisher(broker, counts=False))
    publisher.publish_state(ApplianceState.DEGRADED, "camera dock1 is offline")
    publisher.publish_detections(samples.frame_result())
    publisher.publish_camera_status(samples.camera_status(CameraState.OFFLINE, "no route"))
    publisher.publish_camera_stats(samples.camera_counters())
    publisher.publish_health(samples.machine_reading({"cpu_load_pct": 12.5}))
    witness.wait_for(lambda: witness.on(HEALTH), "the last message")
    settle(publisher)
    witness.wait_for(lambda: len(witness.messages) >= 9, "all messages")
    check_contract(witness.messages)
    bodies = [m.json() for m in witness.messages if m.topic != AVAILABILITY]
    assert {body["session"] for body in bodies} == {17}
    numbers = Counter(message.topic for message in witness.messages if message.topic != STATE)
    for message in witness.messages:
        # One number a message, counted per topic; a state may be replaced before it is sent.
        if message.topic not in (AVAILABILITY, STATE):
            assert message.json()["seq"] <= numbers[message.topic]
    assert [body["seq"] for body in bodies if body["schema"] == "edge.detections/1"] == [1]
    by_topic = {message.topic: message for message in witness.messages}
    assert by_topic[DETECTIONS].json()["detections"][0]["class"] == "car"
    assert by_topic[DETECTIONS].json()["clock_synced"] is True
    assert by_topic[HEALTH].json()["cpu_load_pct"] == 12.5
    assert by_topic[STATE].json()["reason"] == "camera dock1 is offline"
    assert by_topic[STATUS].json()["state"] == "offline"
    assert by_topic[STATS].json()["frames_read"] == 100
    assert not {DETECTIONS, STATS, HEALTH} & set(stored(broker))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [pytest.param(False, [1], id="left out"), pytest.param(True, [0, 1], id="wanted")],
)
def test_empty_frames(
    wanted: bool,
    expected: List[int],
    broker: Broker,
    subscribe: Subscribe,
    make_publisher: MakePublisher,
) -> None:
    witness = subscribe(DETECTIONS)
    publisher = start(make_publisher(broker, empty_frames=wanted))
    publisher.publish_detections(samples.frame_result(Detections.empty()))
    publisher.publish_detections(samples.frame_result())
    witness.wait_for(lambda: len(witness.messages) == len(expected), "the detections")
    assert [len(message.json()["detections"]) for message in witness.messages] == expected


def test_detections_need_a_model(broker: Broker, make_publisher: MakePublisher) -> None:
    with pytest.raises(PublishError, match="publish_info"):
        make_publisher(broker).publish_detections(samples.frame_result())


def test_prefix_and_client_id(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe("site/#")
    publisher = make_publisher(broker, prefix="site/a")
    publisher.start()
    settle(publisher)
    witness.wait_for(lambda: witness.payloads("site/a/nx/availability"), "the birth")
    assert "as site-a-nx (" in broker.log


_VICTIM = """
import sys, time
from pathlib import Path
from edge.clock import SystemClock
from edge.config.mqtt import MqttConfig
from edge.config.outbox import OutboxConfig
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Limits
from edge.publish.outbox.outbox import Outbox
from edge.publish.publisher import Publisher
config = MqttConfig(host="127.0.0.1", port=int(sys.argv[1]))
fail = lambda name, error: None
outbox = Outbox(Path(sys.argv[2]), Limits.of(OutboxConfig()), Timekeeper(SystemClock()), fail)
Publisher(config, "nx", 1, outbox, fail).start()
time.sleep(600)
"""


def test_a_killed_process_is_reported_offline(
    broker: Broker, subscribe: Subscribe, tmp_path: Path
) -> None:
    witness = subscribe(AVAILABILITY)
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(broker.port), str(tmp_path / "outbox.db")]
    )
    try:
        witness.wait_for(lambda: witness.payloads(AVAILABILITY) == ["online"], "the birth")
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait(30)
    witness.wait_for(lambda: witness.payloads(AVAILABILITY) == ["online", "offline"], "the will")


def test_a_broker_that_appears_later(
    broker: Broker, make_publisher: MakePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    broker.kill()
    publisher = make_publisher(broker, counts=False)
    publisher.start()
    describe(publisher)
    publisher.publish_detections(samples.frame_result())
    wait_for(lambda: publisher.last_error, "the first attempt")
    assert publisher.last_error == "cannot be reached: Connection refused"
    assert publisher.counters().dropped["offline"] == 1
    assert not publisher.counters().connected
    broker.start()
    settle(publisher)
    assert sorted(stored(broker)) == sorted(BIRTH)
    assert publisher.last_error is None
    assert len([r for r in caplog.records if "cannot be reached" in r.getMessage()]) == 1


class Stream:
    """Publishes detections without a pause until it is stopped."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.count = 0

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "publishing blocked"

    def _run(self) -> None:
        for self.count in itertools.count(1):
            self._publisher.publish_detections(samples.frame_result(frame_id=self.count))
            if self._stopping.wait(0.002):
                return


def test_a_broker_that_crashes_while_publishing(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = start(make_publisher(broker, counts=False))
    with Stream(publisher) as stream:
        broker.restart()
        settle_count = stream.count
        wait_for(lambda: publisher.counters().connected, "the connection to come back")
        assert sorted(stored(broker)) == sorted(BIRTH)
        witness = Subscriber(broker, DETECTIONS)
        witness.wait_for(lambda: len(witness.messages) > 10, "detections to flow again")
        witness.close()
    settle(publisher)
    assert stream.count > settle_count
    counters = publisher.counters()
    handed_over = stream.count + 2 * len(BIRTH)
    lost = sum(counters.dropped.values())
    assert lost > 0
    assert counters.published + lost >= handed_over
    assert counters.dropped["backlog"] == 0


def test_a_promised_message_survives_a_lost_connection(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = start(make_publisher(broker, counts=False, detections_qos=1))
    broker.freeze()
    for number in range(5):
        publisher.publish_detections(samples.frame_result(frame_id=number))
    assert publisher.counters().queued == 5
    broker.kill()
    wait_for(lambda: not publisher.counters().connected, "the loss to be noticed")
    assert publisher.counters().queued == 5 + len(BIRTH)
    broker.start()
    settle(publisher)
    assert sum(publisher.counters().dropped.values()) == 0


def test_a_stalled_broker_blocks_nobody_and_every_loss_is_counted(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = start(make_publisher(broker, counts=False, backlog=50))
    published = publisher.counters().published
    crowd = samples.detections([(0, 0, 9, 9)] * 300, [0.5] * 300, [0] * 300)
    broker.freeze()
    handed_over = 0
    # The sockets' own buffers take some megabytes first.
    while publisher.counters().dropped["backlog"] < 20:
        publisher.publish_detections(samples.frame_result(crowd))
        handed_over += 1
        assert handed_over < 20_000
    assert publisher.counters().queued <= 50
    publisher.publish_state(ApplianceState.DEGRADED, "while stalled")
    broker.thaw()
    settle(publisher)
    counters = publisher.counters()
    assert counters.published - published == handed_over - counters.dropped["backlog"] + 1
    assert json.loads(stored(broker)[STATE])["reason"] == "while stalled"


def test_a_clean_stop_delivers_everything_then_offline_and_no_will(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe("edge/#")
    publisher = start(make_publisher(broker))
    for number in range(100):
        publisher.publish_detections(samples.frame_result(frame_id=number))
    publisher.publish_state(ApplianceState.STOPPING)
    assert publisher.stop(deadline_s=30)
    witness.wait_for(lambda: "offline" in witness.payloads(AVAILABILITY), "the farewell")
    assert witness.messages[-1].topic == AVAILABILITY
    assert len(witness.on(DETECTIONS)) == 100
    assert witness.on(STATE)[-1].json()["state"] == "stopping"
    assert stored(broker)[AVAILABILITY] == "offline"
    assert witness.payloads(AVAILABILITY) == ["online", "offline"], "the will came too"
    assert "Client edge-nx disconnected." in broker.log
    counters = publisher.counters()
    assert (counters.connected, counters.queued) == (False, 0)
    assert sum(counters.dropped.values()) == 0


def test_a_stop_that_a_stalled_broker_prevents_leaves_it_to_the_will(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(AVAILABILITY)
    publisher = start(make_publisher(broker, counts=False, detections_qos=1))
    broker.freeze()
    publisher.publish_detections(samples.frame_result())
    assert not publisher.stop(deadline_s=0.2)
    assert publisher.counters().dropped["stopped"] == 1
    broker.thaw()
    witness.wait_for(lambda: witness.payloads(AVAILABILITY)[-1] == "offline", "the will")


def test_stop_without_a_broker(broker: Broker, make_publisher: MakePublisher) -> None:
    broker.kill()
    publisher = make_publisher(broker)
    publisher.start()
    assert not publisher.stop(deadline_s=30)
    publisher.publish_health(samples.machine_reading({}))
    assert publisher.counters().dropped["stopped"] == 1


def test_offline_from_elsewhere_is_set_right(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(AVAILABILITY)
    start(make_publisher(broker))
    broker.publish(AVAILABILITY, "offline", retain=True)
    witness.wait_for(
        lambda: witness.payloads(AVAILABILITY) == ["online", "offline", "online"], "the correction"
    )
    assert stored(broker)[AVAILABILITY] == "online"


def test_two_appliances_with_one_client_id_end_up_online(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    first = start(make_publisher(broker, client_id="same"))
    second = make_publisher(broker, session=18, client_id="same")
    second.start()
    describe(second)
    wait_for(lambda: first.last_error, "the first to be thrown out")
    assert first.last_error is not None
    assert "does another client use the id 'same'?" in first.last_error
    wait_for(lambda: second.last_error, "the first to come back")
    second.stop(deadline_s=1)
    settle(first)
    assert stored(broker)[AVAILABILITY] == "online"


def test_small_messages_do_not_wait_for_acknowledgements(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    start(make_publisher(broker))
    descriptors = [
        connection.fd
        for connection in psutil.Process().net_connections("tcp")
        if connection.raddr and connection.raddr.port == broker.port and connection.fd >= 0
    ]
    assert len(descriptors) == 1
    with socket.socket(fileno=os.dup(descriptors[0])) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_numbers_only_rise_on_the_wire_whoever_speaks(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(HEALTH)
    publisher = start(make_publisher(broker))

    def speak() -> None:
        for _ in range(100):
            publisher.publish_health(samples.machine_reading({}))

    threads = [threading.Thread(target=speak) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    witness.wait_for(lambda: len(witness.messages) == 400, "all messages")
    numbers = [message.json()["seq"] for message in witness.messages]
    assert numbers == list(range(numbers[0], numbers[0] + 400))
