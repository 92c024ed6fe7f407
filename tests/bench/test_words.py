from __future__ import annotations

import platform
from typing import Dict, List

import pytest

from edge.bench import words
from edge.bench.trial import Latency, TrialResult
from edge.building.tune import DeviceTiming, Rung, Timing
from edge.health.board import Board, Clocks
from edge.health.nvidia_smi import Card
from edge.records import DropCause, StageTimes

XAVIER = Board(
    module="NVIDIA Jetson Xavier NX Developer Kit",
    l4t="35.4.1",
    jetpack="5.1.2",
    power_mode="MODE_15W_6CORE",
    cpu_clocks=Clocks(115, 1420),
    gpu_clocks=Clocks(114, 1109, 318),
)
LOCKED = Board(module="Orin", gpu_clocks=Clocks(918, 918, 918))


@pytest.mark.parametrize(
    ("board", "expected"),
    [
        pytest.param(
            XAVIER,
            [
                "machine   NVIDIA Jetson Xavier NX Developer Kit, 6 cores, aarch64, L4T 35.4.1, "
                "JetPack 5.1.2",
                "power     mode MODE_15W_6CORE (nvpmodel)",
                "clocks    GPU 114 to 1109 MHz; CPU 115 to 1420 MHz",
                "          they follow the load; `sudo jetson_clocks` locks them",
            ],
            id="a Jetson as it comes",
        ),
        pytest.param(
            LOCKED,
            ["machine   Orin, 6 cores, aarch64", "clocks    GPU locked at 918 MHz"],
            id="after jetson_clocks",
        ),
        pytest.param(
            Board(cpu="AMD EPYC", cpu_clocks=Clocks(400, 3000)),
            ["machine   AMD EPYC, 6 cores, aarch64", "clocks    CPU 400 to 3000 MHz"],
            id="no Jetson",
        ),
        pytest.param(Board(), ["machine   6 cores, aarch64"], id="unknown"),
    ],
)
def test_the_machine(board: Board, expected: List[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert list(words.board_lines(board, 6)) == expected


def test_a_card() -> None:
    card = Card("GPU-1", "NVIDIA H100", "570.86.15", 1980.0, 700.0)
    assert words.card_line(card) == (
        "card      NVIDIA H100, driver 570.86.15, up to 1980 MHz, limited to 700 W"
    )
    bare = Card("GPU-1", "NVIDIA A10", "570.86.15", None, None)
    assert words.card_line(bare) == "card      NVIDIA A10, driver 570.86.15"


SERIAL = Timing(40, 11.6, 12.5, 86.2, 0.004)
STAGES = StageTimes(1, 0.21, 6.5, 0.03)
LOAD = {"gpu_utilization": 0.934, "power_w": 14.25, "frames_per_joule": 10.456}


def rung(batch: int, **changes: object) -> Rung:
    timing = Timing(100, 13.2, 14.1, 149.04, 0.0123)
    fields: Dict[str, object] = {"device": None, "load": {}, **changes}
    return Rung(batch, 1, timing, 0.25, 812.4, 1.5, **fields)  # type: ignore[arg-type]


def test_a_processor_has_one_table() -> None:
    assert list(words.table([rung(8)], "VDD_IN")) == [
        "batch  calls  repeats   p50 ms   p99 ms  frames/s   +/- %  cpu %  memory MiB  MiB/row",
        "    8      1      100     13.2     14.1     149.0     1.2     25         812      1.5",
        "memory    resident in all; MiB/row is its growth per added frame, a rough number",
    ]
    assert list(words.table([], "VDD_IN")) == []


def test_a_device_has_its_ways_and_the_load() -> None:
    device = DeviceTiming(SERIAL, 151.3, 1.729, 0.985, STAGES)
    lines = list(
        words.table(
            [
                rung(1, device=device, load=LOAD),
                rung(2, device=DeviceTiming(SERIAL, 151.3, 1.729, 0.985), load={"power_w": 9.0}),
                rung(4, device=device),
            ],
            "VDD_IN",
        )
    )
    assert lines[5:9] == [
        "batch  overlapped/s  serial/s   alone/s  over serial  over alone    up ms  compute ms  "
        "down ms",
        "    1         149.0      86.2     151.3        1.729       0.985    0.210       6.500  "
        "  0.030",
        "    2         149.0      86.2     151.3        1.729       0.985        -           -  "
        "      -",
        "    4         149.0      86.2     151.3        1.729       0.985    0.210       6.500  "
        "  0.030",
    ]
    assert lines[10:] == [
        "batch  gpu %  power W  frames/J",
        "    1     93     14.2     10.46",
        "    2      -      9.0         -",
        "    4      -        -         -",
        "power     measured at VDD_IN",
    ]
    assert list(words.table([rung(1, load=LOAD)], "the graphics card"))[-1] == (
        "power     measured at the graphics card"
    )


TRIAL = TrialResult(
    cameras=4,
    seconds=5.004,
    frames=110,
    fps=21.98,
    offered_fps=120.2,
    batch_size_mean=3.6,
    dropped={DropCause.SUPERSEDED: 495, DropCause.STALE: 2},
    stages={"capture_to_batch": Latency(12.0, 30.5), "total": Latency(189.85, 378.7)},
    load=LOAD,
)


def test_end_to_end() -> None:
    assert list(words.trial_lines(TRIAL, "VDD_IN")) == [
        "cameras   4 synthetic ones of 1280x720, 120 frames/s together, for 5.0 s",
        "through   22.0 frames/s end to end (110 frames), 3.6 in a batch; dropped: "
        "495 superseded, 2 stale",
        "latency   capture_to_batch  p50   12.00 ms  p99   30.50 ms",
        "latency   total             p50  189.85 ms  p99  378.70 ms",
        "load      GPU 93 %, 14.2 W at VDD_IN, 10.46 frames/J",
    ]


def test_end_to_end_where_nothing_came_through() -> None:
    nothing = TrialResult(1, 5.0, 0, 0.0, 30.0, 0.0, {}, {})
    assert list(words.trial_lines(nothing, "")) == [
        "cameras   1 synthetic ones of 1280x720, 30 frames/s together, for 5.0 s",
        "through   0.0 frames/s end to end (0 frames), 0.0 in a batch; dropped: none",
    ]


def test_a_summary_leaves_out_what_is_unknown() -> None:
    summary = TRIAL.summary()
    assert summary["latency_ms"]["total"] == {"p50": 189.85, "p99": 378.7}
    assert summary["dropped"] == {"superseded": 495, "stale": 2}
    assert summary["frames_per_joule"] == 10.456
    assert "power_w" not in TrialResult(1, 5.0, 0, 0.0, 30.0, 0.0, {}, {}).summary()
