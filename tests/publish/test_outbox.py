from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest

from edge.clock import ManualClock, SystemClock
from edge.publish.outbox import writer
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import ROW_BYTES, DropCause, Entry, Kind
from edge.publish.outbox.outbox import Outbox
from edge.publish.outbox.store import Store
from tests.publish.outboxes import limits, take

YEAR_2026_MS = 1_795_351_830_000


class Bench:
    """Outboxes on one file, run by hand, one after the other as by restarts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "outbox.db"
        self.clock = ManualClock(monotonic_ns=60_000_000_000)
        self.boot_id = "boot-1"
        self.is_synced = True
        self.committed: List[int] = []
        self._opened: List[Outbox] = []

    def open(self, **settings: Any) -> Outbox:
        self.kill()
        times = Timekeeper(self.clock, self.boot_id, lambda: self.is_synced)
        outbox = Outbox(self.path, limits(**settings), times, raise_it, self.committed.extend)
        self._opened.append(outbox)
        return outbox

    def kill(self) -> None:
        """Ends all without another word to the disk."""
        for outbox in self._opened:
            outbox._writer.close()

    def reboot(self, unix_ms: int, boot_id: str, monotonic_s: int = 10) -> None:
        self.clock = ManualClock(monotonic_s * 1_000_000_000, unix_ms)
        self.boot_id = boot_id

    def take_all(self, outbox: Outbox) -> List[str]:
        """Takes and acknowledges until nothing more comes, whatever the pace."""
        texts: List[str] = []
        while True:
            outbox.work()
            entries = take(outbox, 1_000)
            if not entries:
                return texts
            texts += [entry.payload.decode() for entry in entries]
            for entry in entries:
                outbox.ack(entry.ticket)
            self.clock.advance_ms(1_000)


def raise_it(name: str, error: BaseException) -> None:
    raise error


def put(outbox: Outbox, text: str, kind: Kind = Kind.EVENT, camera: str = "dock") -> Optional[int]:
    return outbox.put(kind, f"edge/nx/camera/{camera}/events", text.encode())


def texts(entries: List[Entry]) -> List[str]:
    return [entry.payload.decode() for entry in entries]


def lost(outbox: Outbox) -> List[Any]:
    return sorted((loss.cause.value, loss.kind, loss.count) for loss in outbox.losses())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.kill()


def test_what_is_committed_survives_and_goes_out_in_order(bench: Bench) -> None:
    outbox = bench.open()
    tickets = [put(outbox, str(number)) for number in range(5)]
    outbox.finish()
    assert bench.committed == tickets
    assert bench.take_all(bench.open()) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("kind", "after_ms", "is_committed"),
    [
        pytest.param(Kind.EVENT, 249, False, id="event within its window"),
        pytest.param(Kind.EVENT, 250, True, id="event after its window"),
        pytest.param(Kind.DETECTIONS, 4_999, False, id="detections within theirs"),
        pytest.param(Kind.DETECTIONS, 5_000, True, id="detections after theirs"),
    ],
)
def test_commit_windows(bench: Bench, kind: Kind, after_ms: int, is_committed: bool) -> None:
    outbox = bench.open()
    outbox.work()
    ticket = put(outbox, "one", kind)
    bench.clock.advance_ms(after_ms)
    outbox.work()
    assert bench.committed == ([ticket] if is_committed else [])


def test_what_is_acknowledged_in_time_never_reaches_the_disk(bench: Bench) -> None:
    outbox = bench.open()
    outbox.work()
    put(outbox, "live")
    (entry,) = take(outbox, 1_000)
    assert not entry.is_replayed
    outbox.ack(entry.ticket)
    outbox.finish()
    assert bench.committed == []
    assert bench.take_all(bench.open()) == []


def test_what_is_handed_is_handed_again_only_after_a_restart(bench: Bench) -> None:
    outbox = bench.open()
    outbox.work()
    put(outbox, "one")
    assert texts(take(outbox, 1_000)) == ["one"]
    outbox.finish()
    assert take(outbox, 1_000) == []
    again = bench.open()
    again.work()
    (entry,) = take(again, 1_000)
    assert (entry.payload, entry.is_replayed) == (b"one", True)


def test_what_is_given_back_goes_first_and_in_order(bench: Bench) -> None:
    outbox = bench.open()
    outbox.work()
    for number in range(4):
        put(outbox, str(number))
    take(outbox, 3)
    outbox.give_back()
    again = take(outbox, 1_000)
    assert texts(again) == ["0", "1", "2", "3"]
    assert [entry.is_replayed for entry in again] == [True, True, True, False]


@pytest.mark.parametrize(
    ("after_ms", "is_replayed"),
    [
        pytest.param(1_000, False, id="in time"),
        pytest.param(1_001, True, id="late"),
    ],
)
@pytest.mark.parametrize("place", ["disk", "memory"])
def test_what_waits_is_replayed(bench: Bench, after_ms: int, is_replayed: bool, place: str) -> None:
    outbox = bench.open(events_commit_s=0 if place == "disk" else 60)
    outbox.work()
    put(outbox, "one")
    outbox.work()
    assert outbox.status().in_memory == (place == "memory")
    bench.clock.advance_ms(after_ms)
    (entry,) = take(outbox, 1)
    assert entry.is_replayed == is_replayed


def test_the_window_of_what_is_under_way(bench: Bench) -> None:
    outbox = bench.open(in_flight=2)
    outbox.work()
    for number in range(3):
        put(outbox, str(number))
    first = take(outbox, 1_000)
    assert texts(first) == ["0", "1"]
    outbox.ack(first[1].ticket)
    assert texts(take(outbox, 1_000)) == ["2"]


def test_long_queues_are_read_in_order_while_new_ones_come(bench: Bench) -> None:
    outbox = bench.open()
    for number in range(1_500):
        put(outbox, str(number))
    outbox.finish()
    again = bench.open()
    again.work()
    for number in range(1_500, 1_600):
        put(again, str(number))
    assert bench.take_all(again) == [str(number) for number in range(1_600)]
    assert again.status().queued == 0


# --- bounds --------------------------------------------------------------------------------------

ROW = len("edge/nx/camera/dock/events") + 100 + ROW_BYTES


def fill(outbox: Outbox, kinds: str) -> None:
    by_letter = {"d": Kind.DETECTIONS, "e": Kind.EVENT}
    for number, letter in enumerate(kinds):
        put(outbox, f"{letter}{number}".ljust(100), by_letter[letter])


@pytest.mark.parametrize(
    ("kinds", "left"),
    [
        pytest.param("edee", "e0 d1 e2 e3", id="what fits stays"),
        pytest.param("deddd", "e1 d2 d3 d4", id="oldest detections first"),
        pytest.param("eedde", "e0 e1 d3 e4", id="detections before older events"),
        pytest.param("eeeee", "e1 e2 e3 e4", id="oldest events at last"),
        pytest.param("eeeed", "e0 e1 e2 e3", id="no event makes room for detections"),
    ],
)
@pytest.mark.parametrize("place", ["disk", "memory"])
def test_room_is_made_by_class(bench: Bench, kinds: str, left: str, place: str) -> None:
    limit = {"max_bytes": 4 * ROW} if place == "disk" else {"memory_bytes": 4 * ROW}
    outbox = bench.open(**limit)
    fill(outbox, kinds)
    outbox.finish()
    again = bench.open()
    assert [text.strip() for text in bench.take_all(again)] == left.split()
    cause = DropCause.FULL if place == "disk" else DropCause.MEMORY_FULL
    dropped = len(kinds) - len(left.split())
    assert [(loss.cause, loss.count) for loss in again.losses()] == [(cause, dropped)] * dropped


def test_what_is_larger_than_everything_is_refused(bench: Bench) -> None:
    outbox = bench.open(memory_bytes=1_000)
    assert put(outbox, "x" * 1_000) is None
    assert lost(outbox) == [("too_large", Kind.EVENT, 1)]


def test_the_file_stays_small_while_much_passes(bench: Bench) -> None:
    outbox = bench.open(max_bytes=1 << 20, detections_commit_s=0)
    for _ in range(60):
        for _ in range(100):
            put(outbox, "x" * 1_000, Kind.DETECTIONS)
        outbox.work()
    assert outbox.status().disk_bytes <= 1 << 20
    outbox.finish()
    assert bench.path.stat().st_size < 2 << 20
    drained = bench.open()
    bench.take_all(drained)
    for _ in range(20):
        bench.clock.advance_ms(10_000)
        drained.work()
    drained.finish()
    assert bench.path.stat().st_size < 1 << 20


# --- age -----------------------------------------------------------------------------------------

HOUR_MS = 3_600_000
HOUR = {"events_max_age_s": 3_600}


@pytest.mark.parametrize(
    ("after_ms", "is_left"),
    [
        pytest.param(HOUR_MS - 1_000, True, id="younger"),
        pytest.param(HOUR_MS, True, id="just"),
        pytest.param(HOUR_MS + 1, False, id="older"),
    ],
)
@pytest.mark.parametrize("place", ["disk", "memory"])
def test_age_in_one_boot(bench: Bench, after_ms: int, is_left: bool, place: str) -> None:
    outbox = bench.open(**HOUR)
    outbox.work()
    put(outbox, "one")
    if place == "disk":
        outbox.finish()
        outbox = bench.open(**HOUR)
    bench.clock.advance_ms(after_ms)
    if place == "disk":
        outbox.work()
    assert texts(take(outbox, 1_000)) == (["one"] if is_left else [])
    assert lost(outbox) == ([] if is_left else [("expired", Kind.EVENT, 1)])


@pytest.mark.parametrize(
    ("was_synced", "is_synced", "unix_ms", "uptime_s", "is_left"),
    [
        pytest.param(True, True, YEAR_2026_MS + HOUR_MS - 1_000, 10, True, id="both set, young"),
        pytest.param(True, True, YEAR_2026_MS + HOUR_MS + 1_000, 10, False, id="both set, old"),
        pytest.param(False, True, YEAR_2026_MS + 9 * HOUR_MS, 10, True, id="put in 1970"),
        pytest.param(True, False, 5_000, 10, True, id="now 1970"),
        pytest.param(False, False, 5_000, 3_599, True, id="never set, uptime below"),
        pytest.param(False, False, 5_000, 3_601, False, id="never set, uptime above"),
    ],
)
def test_age_over_boots(
    bench: Bench, was_synced: bool, is_synced: bool, unix_ms: int, uptime_s: int, is_left: bool
) -> None:
    bench.reboot(YEAR_2026_MS if was_synced else 3_000, "boot-1")
    bench.is_synced = was_synced
    outbox = bench.open(**HOUR)
    put(outbox, "one")
    outbox.finish()
    bench.reboot(unix_ms, "boot-2", uptime_s)
    bench.is_synced = is_synced
    again = bench.open(**HOUR)
    again.work()
    assert texts(take(again, 1_000)) == (["one"] if is_left else [])


@pytest.mark.parametrize("place", ["memory", "disk", "given back", "loaded"])
def test_times_are_set_right_once_the_clock_is(bench: Bench, place: str) -> None:
    bench.reboot(3_000, "boot-1")
    bench.is_synced = False
    outbox = bench.open()
    outbox.work()
    put(outbox, "one")
    if place in {"disk", "loaded"}:
        outbox.finish()
        outbox = bench.open()
    if place != "disk":
        outbox.work()
    if place == "given back":
        take(outbox, 1_000)
        outbox.give_back()
    bench.clock.advance_ms(2_000)
    bench.clock = ManualClock(bench.clock.monotonic_ns(), YEAR_2026_MS)
    outbox.times.clock = bench.clock  # the same machine, whose wall clock has jumped
    bench.is_synced = True
    outbox.work()
    outbox.work()
    (entry,) = take(outbox, 1_000)
    assert entry.stamp.unix_ms == YEAR_2026_MS - 2_000
    assert (entry.stamp.is_synced, entry.shift_ms) == (True, YEAR_2026_MS - 5_000)
    outbox.finish()
    again = bench.open()
    again.work()
    (entry,) = take(again, 1_000)
    assert (entry.stamp.unix_ms, entry.shift_ms) == (YEAR_2026_MS - 2_000, YEAR_2026_MS - 5_000)


# --- losses --------------------------------------------------------------------------------------


def test_losses_outlive_the_process(bench: Bench) -> None:
    outbox = bench.open(max_bytes=ROW)
    fill(outbox, "eee")
    outbox.finish()
    assert outbox.dropped()[DropCause.FULL] == 2
    again = bench.open(max_bytes=ROW)
    again.work()
    assert lost(again) == [("full", Kind.EVENT, 2)]
    assert again.dropped()[DropCause.FULL] == 0
    fill(again, "e")
    again.finish()
    assert lost(again) == [("full", Kind.EVENT, 3)]
    assert again.dropped()[DropCause.FULL] == 1
    last = bench.open()
    last.work()
    assert lost(last) == [("full", Kind.EVENT, 3)]


@pytest.mark.parametrize("after_ms", [0, 60_000], ids=["in memory", "on the disk"])
def test_what_the_broker_refuses_is_lost_and_not_said_again(bench: Bench, after_ms: int) -> None:
    outbox = bench.open()
    put(outbox, "a")
    put(outbox, "b")
    bench.clock.advance_ms(after_ms)
    outbox.work()
    refused, taken = take(outbox, 2)
    outbox.refuse(refused.ticket)
    outbox.refuse(refused.ticket)  # once is enough
    outbox.ack(taken.ticket)
    outbox.refuse(taken.ticket)  # that one is known by then
    assert lost(outbox) == [("refused", Kind.EVENT, 1)]
    assert outbox.is_empty
    outbox.finish()
    again = bench.open()
    again.work()
    assert take(again, 2) == []
    assert lost(again) == [("refused", Kind.EVENT, 1)]


# --- disks that do not answer --------------------------------------------------------------------


def test_nobody_waits_for_a_disk_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bench.open()
    put(before, "old")
    before.finish()
    outbox = bench.open()
    opening, answers = threading.Event(), threading.Event()

    def open_slowly(path: Path, run: Optional[int]) -> Store:
        opening.set()
        assert answers.wait(30)
        return Store(path, run)

    monkeypatch.setattr(writer, "Store", open_slowly)
    outbox.start()
    assert opening.wait(30)
    put(outbox, "new")
    assert texts(take(outbox, 2)) == []
    bench.clock.advance_ms(10_001)
    assert outbox.status().trouble == "the disk does not answer; check it"
    assert texts(take(outbox, 2)) == ["new"]
    assert not outbox.stop(0.01)
    assert outbox.dropped()[DropCause.STOPPED] == 1
    answers.set()
    assert outbox._thread.join(30)
    assert texts(take(outbox, 2)) == ["old"]


# --- its own thread ------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    died: List[BaseException] = []
    opened: List[Outbox] = []

    def open_one(committed: Callable[[List[int]], None], **settings: Any) -> Outbox:
        opened.append(
            Outbox(
                tmp_path / "outbox.db",
                limits(**settings),
                Timekeeper(SystemClock()),
                lambda name, error: died.append(error),
                committed,
            )
        )
        opened[-1].start()
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.stop(10)
    assert died == []


def test_the_thread_commits_by_itself(running: Callable[..., Outbox]) -> None:
    enough = threading.Event()
    outbox = running(lambda tickets: enough.set(), events_commit_s=0.01)
    put(outbox, "one")
    assert enough.wait(30)
    assert outbox.stop(30)
    assert (outbox.status().queued, outbox.status().in_memory) == (1, 0)


def test_what_comes_after_the_end_is_counted(running: Callable[..., Outbox]) -> None:
    outbox = running(lambda tickets: None)
    assert outbox.stop(30)
    assert put(outbox, "late") is None
    assert outbox.dropped()[DropCause.STOPPED] == 1


def test_many_threads_put_while_one_takes(running: Callable[..., Outbox]) -> None:
    outbox = running(lambda tickets: None, events_commit_s=0.001, drain_per_s=100_000)

    def put_many(camera: str) -> None:
        for number in range(200):
            put(outbox, str(number), camera=camera)

    threads = [threading.Thread(target=put_many, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    got: List[Entry] = []
    pause = threading.Event()
    while len(got) < 800:
        entry = outbox.take()
        if entry is None:
            pause.wait(0.001)
            continue
        outbox.ack(entry.ticket)
        got.append(entry)
    for camera in "abcd":
        topic = f"edge/nx/camera/{camera}/events"
        assert [e.payload for e in got if e.topic == topic] == [b"%d" % n for n in range(200)]
    assert outbox.stop(30)
    assert outbox.status().queued == 0
