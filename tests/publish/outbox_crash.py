"""A process to be killed: puts, takes and acknowledges, and says on stdout what it was promised.

Arguments: the file, the number of the first message. Lines: `c N` committed, `t N` taken,
`a N` about to be acknowledged.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import List

from edge.clock import SystemClock
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Kind
from edge.publish.outbox.ledger import FIRST_TICKET
from edge.publish.outbox.outbox import Outbox
from tests.publish.outboxes import limits


def say(letter: str, numbers: List[int]) -> None:
    # One write, so that no line is cut in two.
    os.write(1, "".join(f"{letter} {number}\n" for number in numbers).encode())


def die(name: str, error: BaseException) -> None:
    os._exit(3)


def main(path: Path, first: int) -> None:
    outbox = Outbox(
        path,
        limits(events_commit_s=0.002, detections_commit_s=0.01),
        Timekeeper(SystemClock()),
        die,
        lambda tickets: say("c", [first + ticket - FIRST_TICKET for ticket in tickets]),
    )
    outbox.start()
    number = first
    while True:
        for _ in range(5):
            kind = Kind.DETECTIONS if number % 3 else Kind.EVENT
            outbox.put(kind, "edge/nx/events", str(number).encode() * 20)
            number += 1
        entries = [entry for entry in (outbox.take() for _ in range(3)) if entry]
        say("t", [int(entry.payload[: len(entry.payload) // 20]) for entry in entries])
        if number % 2:
            say("a", [int(entry.payload[: len(entry.payload) // 20]) for entry in entries])
            for entry in entries:
                outbox.ack(entry.ticket)
        time.sleep(0.001)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
