"""Outages of every kind between a process that tells events and a subscriber that counts them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Set

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.event_source import CAMERAS, CLIENT_ID, EVENT_BYTES
from benchmarks.stalling_proxy import StallingProxy
from tests.mosquitto import Broker, free_port, wait_for

ROOT = Path(__file__).resolve().parents[1]

# A second run's events are numbered from here, a third's from twice that.
_RUN = 1_000_000

# What comes in while an outbox is drained.
_LIVE_PER_S = 200

# Without a word for so long, nothing will come any more.
_PATIENCE_S = 60.0

# What the broker has acknowledged, but does not hand on for so long, it has lost.
_QUIET_S = 3.0


class Heard(NamedTuple):
    """One reception; `is_dup` is the broker's word for a redelivery."""

    number: int
    is_dup: bool
    is_replayed: bool


class Witness:
    """A subscriber whose session the broker keeps while it is away."""

    def __init__(self, port: int) -> None:
        self.heard: List[Heard] = []
        self._is_subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="witness", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("edge/nx/camera/+/events", 1)
        self._client.on_subscribe = lambda *_: self._is_subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=5)
        self._client.loop_start()
        assert self._is_subscribed.wait(30), "the witness got no subscription"

    def close(self) -> None:
        """Ends it."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Client, userdata: Any, message: Any) -> None:
        body = json.loads(message.payload)
        self.heard.append(Heard(body["id"], message.dup, body["replayed"]))


@dataclass
class Told:
    """What the telling processes said."""

    accepted: Set[int] = field(default_factory=set)
    committed: Set[int] = field(default_factory=set)
    acknowledged: Set[int] = field(default_factory=set)
    dropped: Dict[str, int] = field(default_factory=dict)

    def promised(self) -> Set[int]:
        """What must arrive: what was committed or acknowledged, and all that the last process
        accepted, which ended cleanly."""
        last_run = max(self.accepted, default=0) // _RUN
        return (
            self.committed | self.acknowledged | {n for n in self.accepted if n // _RUN == last_run}
        )


class Source:
    """The process that tells events; it can be killed and started again on the same outbox."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.told = Told()
        self._folder = folder
        self.port = port
        self._options = options
        self._runs = 0
        self.start()

    def start(self, *options: str) -> None:
        """Starts it, with numbers above all before."""
        command = [sys.executable, "-m", "benchmarks.event_source"]
        command += [str(self._folder / "outbox.db"), str(self.port)]
        command += ["--first", str(self._runs * _RUN), *self._options, *options]
        self._runs += 1
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not options:
            first = (self._runs - 1) * _RUN
            wait_for(lambda: first in self.told.accepted, "the first event")

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._end()

    def finish(self) -> None:
        """Ends it cleanly."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._end()
        assert self._process.returncode == 0, self._process.returncode

    def _end(self) -> None:
        self._process.wait(60)
        self._reader.join(60)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        told = self.told
        sets = {"p": told.accepted, "c": told.committed, "a": told.acknowledged}
        for line in process.stdout:
            letter, _, rest = line.rstrip("\n").partition(" ")
            if letter == "end":
                for cause, count in json.loads(rest).items():
                    told.dropped[cause] = told.dropped.get(cause, 0) + count
            else:
                sets[letter].add(int(rest))


@dataclass(frozen=True)
class Balance:
    """What a run of outages has cost.

    `lost` never arrived though it was promised; `lost_by_broker` did the broker acknowledge
    before it was killed. `duplicated` came twice though neither side had a reason to repeat it;
    `repeated` had one: QoS 1's allowance. `disordered` came before an older one of its camera.
    """

    events: int
    lost: int
    lost_by_broker: int
    duplicated: int
    repeated: int
    disordered: int
    dropped: Dict[str, int]


def balance(told: Told, heard: List[Heard]) -> Balance:
    """Counts by id."""
    promised = told.promised()
    seen: Set[int] = set()
    newest = [-1] * CAMERAS
    duplicated = repeated = disordered = 0
    for number, is_dup, is_replayed in list(heard):
        if number in seen:
            repeated += is_dup or is_replayed
            duplicated += not (is_dup or is_replayed)
            continue
        seen.add(number)
        disordered += number < newest[number % CAMERAS]
        newest[number % CAMERAS] = max(number, newest[number % CAMERAS])
    missing = promised - seen
    by_broker = missing & told.acknowledged
    return Balance(
        events=len(promised),
        lost=len(missing - by_broker),
        lost_by_broker=len(by_broker),
        duplicated=duplicated,
        repeated=repeated,
        disordered=disordered,
        dropped=told.dropped,
    )


Incident = Callable[["Stage", random.Random], None]


@dataclass
class Stage:
    """All that an incident may break."""

    broker: Broker
    proxy: StallingProxy
    source: Source


def stop_broker(stage: Stage, rng: random.Random) -> None:
    """SIGTERM: it writes down its state."""
    stage.broker.stop()
    time.sleep(rng.uniform(0, 0.5))
    stage.broker.start()


def kill_broker(stage: Stage, rng: random.Random) -> None:
    """SIGKILL: it loses what it has not written down."""
    stage.broker.kill()
    time.sleep(rng.uniform(0, 0.5))
    stage.broker.start()


def stall_network(stage: Stage, rng: random.Random) -> None:
    """For shorter or longer than the keep-alive."""
    stage.proxy.stall()
    time.sleep(rng.uniform(0.1, 2.5))
    stage.proxy.flow()


def cut_network(stage: Stage, rng: random.Random) -> None:
    """Connections are reset."""
    stage.proxy.cut()


def forget_connection(stage: Stage, rng: random.Random) -> None:
    """Half open: nobody is told."""
    stage.proxy.forget()
    time.sleep(rng.uniform(0.5, 2))


def kill_source(stage: Stage, rng: random.Random) -> None:
    """SIGKILL of the process that tells events."""
    stage.source.kill()
    stage.source.start()


def slow_network(stage: Stage, rng: random.Random) -> None:
    """A tenth of what the events alone need passes."""
    stage.proxy.slow(bytes_per_s=10_000)
    time.sleep(rng.uniform(0.5, 2))
    stage.proxy.flow()


def take_over(stage: Stage, rng: random.Random) -> None:
    """Another client with the same id, for which the broker throws the source out."""
    rival = Client(CallbackAPIVersion.VERSION2, client_id=CLIENT_ID)
    rival.connect("127.0.0.1", stage.broker.port)
    rival.loop_start()
    time.sleep(rng.uniform(0.1, 0.5))
    rival.disconnect()
    rival.loop_stop()


INCIDENTS: Dict[str, Incident] = {
    "broker_sigterm": stop_broker,
    "broker_sigkill": kill_broker,
    "network_stall": stall_network,
    "network_cut": cut_network,
    "network_slow": slow_network,
    "half_open": forget_connection,
    "client_id_taken": take_over,
    "process_sigkill": kill_source,
}


def persistent_broker(folder: Path) -> Broker:
    """A broker that keeps what it has acknowledged, as far as mosquitto can: by the second."""
    settings = [
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 1",
        "max_queued_messages 0",
        "max_inflight_messages 0",
    ]
    return Broker(folder, settings=settings)


def go_through(incident: Incident, times: int, folder: Path, seed: int = 1) -> Balance:
    """Has `incident` happen at random moments under load, and counts what arrived."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        broker = persistent_broker(folder)
        broker.start()
        stack.callback(broker.kill)
        witness = Witness(broker.port)
        stack.callback(witness.close)
        proxy = StallingProxy(broker.port)
        stack.callback(proxy.close)
        source = Source(folder, proxy.port)
        stage = Stage(broker, proxy, source)
        for _ in range(times):
            time.sleep(rng.uniform(0.1, 1.0))
            incident(stage, rng)
        told = _settle(source, witness)
    return balance(told, witness.heard)


@dataclass(frozen=True)
class Drain:
    """How an outbox was drained that had filled while no broker was there."""

    balance: Balance
    queued: int
    queued_mb: float
    live_per_s: float
    drained_per_s: float


def fill_and_drain(megabytes: float, folder: Path) -> Drain:
    """Fills an outbox without a broker, then counts how fast it empties while new events come."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        broker = persistent_broker(folder)
        broker.start()
        stack.callback(broker.kill)
        witness = Witness(broker.port)
        stack.callback(witness.close)
        count = int(megabytes * 1e6 / EVENT_BYTES)
        # Where nobody listens; at its default pace, as a plant would have it.
        source = Source(folder, free_port(), "--drain-per-s", "500", "--per-s", "1500")
        wait_for(lambda: len(source.told.accepted) >= count, "a full outbox", timeout_s=300)
        source.finish()
        queued = len(source.told.accepted)
        source.port = broker.port
        source.start("--per-s", str(_LIVE_PER_S))
        wait_for(lambda: source.told.acknowledged, "the connection")
        start_s, before = time.monotonic(), len(source.told.acknowledged)
        old = set(source.told.accepted) - source.told.acknowledged
        wait_for(lambda: not old - source.told.acknowledged, "the end of the queue", 300)
        took_s = time.monotonic() - start_s
        gone = len(source.told.acknowledged) - before
        told = _settle(source, witness)
    return Drain(
        balance(told, witness.heard), queued, queued * EVENT_BYTES / 1e6, _LIVE_PER_S, gone / took_s
    )


def _settle(source: Source, witness: Witness) -> Told:
    """Has everything told that was promised; what the end left in the outbox is, by a next run."""
    source.finish()
    source.start("--per-s", "0")
    promised = source.told.promised()
    heard, since = 0, time.monotonic()
    while time.monotonic() - since < _PATIENCE_S:
        missing = promised - {one.number for one in list(witness.heard)}
        is_quiet = time.monotonic() - since > _QUIET_S
        if not missing or (is_quiet and missing <= source.told.acknowledged):
            break
        if len(witness.heard) > heard:
            heard, since = len(witness.heard), time.monotonic()
        time.sleep(0.2)
    source.finish()
    return source.told
