"""A process with an outbox and a link to a broker that tells events, and is made to be killed.

Lines on stdout: `p N` event N was accepted, `c N` it is committed, `a N` the broker has it. A line
on stdin ends it cleanly; its last line is then `end` and what was dropped, by cause.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterable, List, Optional
from unittest import mock

from edge.backoff import Backoff
from edge.clock import NS_PER_MS, SystemClock
from edge.config.mqtt import MqttConfig
from edge.config.outbox import OutboxConfig
from edge.publish import link as link_module
from edge.publish.link import MqttLink
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Entry, Kind, Limits
from edge.publish.outbox.outbox import Outbox
from edge.publish.retained import Message

CAMERAS = 4
CLIENT_ID = "edge-nx"
EVENT_BYTES = 400

OFFLINE = Message("edge/nx/availability", b"offline", qos=1, retain=True)
ONLINE = Message("edge/nx/availability", b"online", qos=1, retain=True)

_STOP_S = 10.0


def event_topic(number: int) -> str:
    """Where event `number` is told."""
    return f"edge/nx/camera/cam{number % CAMERAS}/events"


def say(letter: str, numbers: Iterable[int]) -> None:
    """Tells the parent; one write, so that a kill cuts no line in two."""
    os.write(1, "".join(f"{letter} {number}\n" for number in numbers).encode())


class TellingOutbox(Outbox):
    """Tells which events are committed and acknowledged."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.number_of: Dict[int, int] = {}
        super().__init__(path, limits, Timekeeper(SystemClock()), _die, self._committed)

    def take(self) -> Optional[Entry]:
        """As its parent's; notes which event it is."""
        entry = super().take()
        if entry is not None:
            self.number_of[entry.ticket] = json.loads(entry.payload)["id"]
        return entry

    def ack(self, ticket: int) -> None:
        """As its parent's."""
        super().ack(ticket)
        say("a", [self.number_of[ticket]])

    def _committed(self, tickets: List[int]) -> None:
        say("c", [self.number_of[ticket] for ticket in tickets if ticket in self.number_of])


def _die(name: str, error: BaseException) -> None:
    print(f"{name} died: {error!r}", file=sys.stderr, flush=True)
    os._exit(3)


def make_event(number: int) -> bytes:
    """The payload of event `number`."""
    body = {"id": number, "ts_ms": time.time_ns() // NS_PER_MS, "ts": "", "replayed": False}
    return json.dumps(body).ljust(EVENT_BYTES).encode()


class Source:
    """Tells events at a steady rate, between messages that may be lost."""

    def __init__(self, outbox: TellingOutbox, link: MqttLink, options: argparse.Namespace) -> None:
        self._outbox = outbox
        self._link = link
        self._first = options.first
        self._per_s = options.per_s
        self._stopping = threading.Event()

    def run(self) -> None:
        """Tells events until `stop`."""
        number = self._first
        start_s = time.monotonic()
        while not self._stopping.wait(0.005):
            due = self._first + int((time.monotonic() - start_s) * self._per_s)
            while number < due:
                self.tell(number)
                number += 1

    def tell(self, number: int) -> None:
        """Tells one event, and a detection that is not kept."""
        ticket = self._outbox.put(Kind.EVENT, event_topic(number), make_event(number))
        if ticket is not None:
            self._outbox.number_of[ticket] = number
            say("p", [number])
        self._link.publish(Message("edge/nx/camera/cam0/detections", b"x" * 400, 0, retain=False))

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()


def main(options: argparse.Namespace) -> None:
    """Runs until it is killed or a line comes in."""
    # As in a plant, but for the patience: an outage here lasts a second, not an hour.
    patience = functools.partial(Backoff, first_s=0.05)
    mock.patch.multiple(link_module, Backoff=patience, _SLOWEST_S=0.5).start()
    config = OutboxConfig(events_commit_s=options.commit_s, drain_per_s=options.drain_per_s)
    outbox = TellingOutbox(options.path, Limits.of(config))
    # Shorter than users may choose, to see it run out.
    mqtt = MqttConfig(host="127.0.0.1", port=options.port).model_copy(update={"keepalive_s": 1})
    link = MqttLink(mqtt, CLIENT_ID, OFFLINE, outbox, SystemClock(), _die)
    outbox.start()
    link.publish(ONLINE)
    link.start()
    source = Source(outbox, link, options)
    thread = threading.Thread(target=source.run, daemon=True)
    thread.start()
    sys.stdin.readline()
    source.stop()
    thread.join()
    link.stop(OFFLINE, _STOP_S)
    outbox.stop(_STOP_S)
    dropped = {cause.value: count for cause, count in outbox.dropped().items() if count}
    os.write(1, f"end {json.dumps(dropped)}\n".encode())


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the outbox's file")
    parser.add_argument("port", type=int, help="the broker's")
    parser.add_argument("--first", type=int, default=0, help="the number of the first event")
    parser.add_argument("--per-s", type=float, default=200.0, help="events in a second")
    parser.add_argument("--commit-s", type=float, default=0.05, help="outbox.events_commit_s")
    parser.add_argument("--drain-per-s", type=int, default=5000, help="outbox.drain_per_s")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
