"""How fast and how soon our publisher delivers, beside bare paho and mosquitto_pub.

All speak to the same mosquitto in the same run, in turn; one subscriber in a process of its own
notes when each message arrives. Messages are 400 bytes; latency is taken at 240 messages a second.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Protocol, Sequence

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.report import Bar, Report, parse
from benchmarks.timing import paired_ratio, percentile
from edge.clock import SystemClock
from edge.config.mqtt import MqttConfig
from edge.config.outbox import OutboxConfig
from edge.publish.link import MqttLink
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Kind, Limits
from edge.publish.outbox.outbox import Outbox
from edge.publish.retained import Message
from tests.mosquitto import Broker, wait_for

TOPIC = "bench/messages"
MESSAGE_BYTES = 400
PER_S = 240

# Of the one percent that is slowest the machine decides, not the publisher.
_PERCENTS = (50, 99)

_OFFLINE = Message("bench/availability", b"offline", qos=1, retain=True)

_ROUNDS, _QUICK_ROUNDS = 12, 1
_LATENCY_S, _QUICK_LATENCY_S = 1.0, 1.0
_COUNT, _QUICK_COUNT = 1_000, 500


def make_payload() -> bytes:
    """A message that begins with the time of its making."""
    return (b'{"made_ns":"%020d"}' % time.monotonic_ns()).ljust(MESSAGE_BYTES)


class Way(Protocol):
    """One of the publishers."""

    def publish(self, payload: bytes) -> None:
        """Sends to TOPIC."""

    def close(self) -> None:
        """Ends it."""


class Edge:
    """Our link; through the outbox at QoS 1, past it at QoS 0."""

    def __init__(self, port: int, folder: Path, qos: int) -> None:
        self._qos = qos
        # As fast as it goes: what piles up for a moment here is no outage's backlog.
        config = OutboxConfig(drain_per_s=100_000)
        times = Timekeeper(SystemClock())
        self._outbox = Outbox(folder / f"outbox-{qos}.db", Limits.of(config), times, _fail)
        self._outbox.start()
        mqtt = MqttConfig(host="127.0.0.1", port=port, backlog=100_000)
        self._link = MqttLink(mqtt, f"edge-{qos}", _OFFLINE, self._outbox, SystemClock(), _fail)
        self._link.start()
        wait_for(lambda: self._link.counters().connected, "the connection")

    def publish(self, payload: bytes) -> None:
        """Sends to TOPIC."""
        if self._qos:
            self._link.keep(Kind.EVENT, TOPIC, payload)
        else:
            self._link.publish(Message(TOPIC, payload, 0, retain=False))

    def close(self) -> None:
        """Ends it."""
        self._link.stop(_OFFLINE, 5)
        self._outbox.stop(5)


class Paho:
    """Paho with its own thread."""

    def __init__(self, port: int, qos: int, *, has_nagle: bool) -> None:
        self._qos = qos
        name = f"paho-{qos}-{has_nagle}"
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._client.max_inflight_messages_set(256)  # as ours
        self._client.connect("127.0.0.1", port)
        if not has_nagle:
            sock: Any = self._client.socket()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.loop_start()
        wait_for(self._client.is_connected, "the connection")

    def publish(self, payload: bytes) -> None:
        """Sends to TOPIC."""
        self._client.publish(TOPIC, payload, self._qos)

    def close(self) -> None:
        """Ends it."""
        self._client.disconnect()
        self._client.loop_stop()


class MosquittoPub:
    """mosquitto_pub, which gets a message in every line."""

    def __init__(self, port: int, qos: int) -> None:
        command = [shutil.which("mosquitto_pub") or "mosquitto_pub", "-h", "127.0.0.1"]
        command += ["-p", str(port), "-q", str(qos), "-t", TOPIC, "-l"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def publish(self, payload: bytes) -> None:
        """Sends to TOPIC."""
        assert self._process.stdin is not None
        self._process.stdin.write(payload + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def _fail(name: str, error: BaseException) -> None:
    raise SystemExit(f"{name} died: {error!r}")


# --- the subscriber ------------------------------------------------------------------------------

_LISTENER = """
import json, sys, time
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
received = []
def on_message(client, userdata, message):
    received.append((int(message.payload[12:32]), time.monotonic_ns()))
client = Client(CallbackAPIVersion.VERSION2, client_id="listener")
client.on_connect = lambda client, *_: client.subscribe(sys.argv[2], 1)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
for line in sys.stdin:
    wanted = int(line)
    deadline = time.monotonic() + 60
    while len(received) < wanted and time.monotonic() < deadline:
        time.sleep(0.005)
    print(json.dumps(received[:]), flush=True)
    received.clear()
"""


class Listener:
    """A subscriber in a process of its own, so that it takes no time from who publishes."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LISTENER, str(port), TOPIC],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready\n"

    def collect(self, count: int) -> List[Sequence[int]]:
        """When each message was made and when it arrived, monotonic ns, once `count` have come."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        received: List[Sequence[int]] = json.loads(self._answer())
        return received

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


# --- the measurement -----------------------------------------------------------------------------


def latencies_ms(way: Way, listener: Listener, seconds: float) -> List[float]:
    """Of messages at PER_S."""
    count = int(seconds * PER_S)
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + number / PER_S - time.monotonic()))
        way.publish(make_payload())
    return [(arrived - made) / 1e6 for made, arrived in listener.collect(count)]


def per_s(way: Way, listener: Listener, count: int) -> float:
    """Messages a second, from the first one's making to the last one's arrival."""
    for _ in range(count):
        way.publish(make_payload())
    received = listener.collect(count)
    if len(received) < count:
        raise SystemExit(f"only {len(received)} of {count} messages arrived")
    return count / ((received[-1][1] - received[0][0]) / 1e9)


def measure(report: Report, ways: Dict[str, Way], listener: Listener, *, quick: bool) -> None:
    """All ways in turn, so that all see the same noise."""
    took: Dict[str, List[float]] = {name: [] for name in ways}
    medians: Dict[str, List[float]] = {name: [] for name in ways}
    rates: Dict[str, List[float]] = {name: [] for name in ways}
    for _ in range(_QUICK_ROUNDS if quick else _ROUNDS):
        for name, way in ways.items():
            round_ms = latencies_ms(way, listener, _QUICK_LATENCY_S if quick else _LATENCY_S)
            took[name] += round_ms
            medians[name].append(percentile(round_ms, 50))
            rates[name].append(per_s(way, listener, _QUICK_COUNT if quick else _COUNT))
    for percent in _PERCENTS:
        for name, values in took.items():
            report.add(f"latency_ms_p{percent}_{name}", percentile(values, percent), "ms", name)
    for name, values in rates.items():
        report.add(f"per_s_{name}", percentile(values, 50), "/s", name)
    for qos, key in ((0, "qos0"), (1, "qos1")):
        ratio = paired_ratio(medians[f"edge_qos{qos}"], medians[f"paho_qos{qos}"])
        what = "through the outbox" if qos else "passing"
        report.add(
            f"latency_over_paho_{key}", ratio, "",
            f"p50 at QoS {qos}, {what}, over bare paho with TCP_NODELAY, median of rounds",
            Bar("<=", 1.5),
        )  # fmt: skip
        rate = percentile(rates[f"edge_qos{qos}"], 50) / percentile(rates[f"paho_qos{qos}"], 50)
        report.add(f"throughput_over_paho_{key}", rate, "", f"messages a second at QoS {qos}")


def main() -> None:
    """Runs it."""
    options = parse(__doc__, None)
    report = Report("publish", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(folder, settings=["max_queued_messages 0", "max_inflight_messages 0"])
        broker.start()
        stack.callback(broker.kill)
        listener = Listener(broker.port)
        stack.callback(listener.close)
        ways: Dict[str, Way] = {
            "edge_qos0": Edge(broker.port, folder, 0),
            "edge_qos1": Edge(broker.port, folder, 1),
            "paho_qos0": Paho(broker.port, 0, has_nagle=False),
            "paho_qos1": Paho(broker.port, 1, has_nagle=False),
            "paho_nagle_qos0": Paho(broker.port, 0, has_nagle=True),
            "mosquitto_pub_qos0": MosquittoPub(broker.port, 0),
            "mosquitto_pub_qos1": MosquittoPub(broker.port, 1),
        }
        for way in ways.values():
            stack.callback(way.close)
        measure(report, ways, listener, quick=options.quick)
    report.publish()


if __name__ == "__main__":
    main()
