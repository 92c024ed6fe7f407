"""Are events lost, doubled or disordered, whatever fails between the appliance and a subscriber?

The appliance's outbox and link, in a process of their own, tell 200 events a second beside as many
messages that may be lost; a real mosquitto with persistence; a subscriber with a persistent session
that counts every event by id. In between, at random moments: the broker ends cleanly or is killed,
the network stalls, is slow, resets connections or leaves them half open, another client takes the
client id, and the process itself is killed. At last an outbox that filled without a broker.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.outages import INCIDENTS, Balance, fill_and_drain, go_through
from benchmarks.report import Bar, Report, parse

_TIMES = 50
_QUICK_TIMES = 3
_QUEUE_MB = 10.0
_QUICK_QUEUE_MB = 0.5


def main() -> None:
    """Runs it."""
    options = parse(__doc__, None)
    report = Report("delivery", options)
    times = _QUICK_TIMES if options.quick else _TIMES
    balances = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, incident in INCIDENTS.items():
            balances[name] = go_through(incident, times, Path(folder) / name)
            report_incident(report, name, balances[name])
        megabytes = _QUICK_QUEUE_MB if options.quick else _QUEUE_MB
        drain = fill_and_drain(megabytes, Path(folder) / "drain")
    all_balances = [*balances.values(), drain.balance]
    add = report.add
    add("incidents", times * len(balances), "", "failures that happened")
    add("events", sum(b.events for b in all_balances), "", "events promised: committed, or live")
    add("events_lost", sum(b.lost for b in all_balances), "", "never arrived", Bar("<=", 0))
    add(
        "events_duplicated", sum(b.duplicated for b in all_balances), "",
        "came twice without a connection or process that was lost with them", Bar("<=", 0),
    )  # fmt: skip
    add("events_disordered", sum(b.disordered for b in all_balances), "", "overtaken", Bar("<=", 0))
    add("events_repeated", sum(b.repeated for b in all_balances), "", "QoS 1's allowance")
    add(
        "events_lost_by_broker", sum(b.lost_by_broker for b in all_balances), "",
        "acknowledged by a broker that was killed before it had written them down",
    )  # fmt: skip
    add("queue_messages", drain.queued, "", "in the outbox before the broker came")
    add("queue_mb", drain.queued_mb, "MB", "the same")
    add("drained_per_s", drain.drained_per_s, "/s", "as the queue emptied, live events included")
    add(
        "drained_over_live", drain.drained_per_s / drain.live_per_s, "",
        "over the live rate", Bar(">=", 2),
    )  # fmt: skip
    report.note("mosquitto saves its state every second; what it loses in between is its own")
    report.publish()


def report_incident(report: Report, name: str, balance: Balance) -> None:
    """What one kind of failure has cost."""
    report.add(f"events_{name}", balance.events, "", "events promised")
    report.add(f"events_lost_{name}", balance.lost, "", "of them never arrived")
    report.add(f"events_repeated_{name}", balance.repeated, "", "came again, as QoS 1 allows")
    for cause, count in balance.dropped.items():
        report.add(f"dropped_{cause}_{name}", count, "", "counted by the outbox")


if __name__ == "__main__":
    main()
