"""nvidia-smi's answers, and a stand-in for the tool itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Dict, List, Optional

import pytest

from edge.health.nvidia_smi import Card, CardLoad, card_of, find_cards, parse_cards, parse_load

H100 = Card("GPU-8f1", "NVIDIA H100 80GB HBM3", "570.86.15", 1980.0, 700.0)
A10 = Card("GPU-2", "NVIDIA A10", "570.86.15", None, None)
A100 = Card("GPU-3", "NVIDIA A100", "570.86.15", 1410.0, 400.0)


def test_cards() -> None:
    text = (
        "GPU-8f1, NVIDIA H100 80GB HBM3, 570.86.15, 1980, 700.00\n"
        "GPU-2, NVIDIA A10, 570.86.15, [N/A], [Not Supported]\n"
        "\nNo devices were found\n"
    )
    assert parse_cards(text) == [H100, A10]


LOADS = {
    "both": ("87, 412.35\n", {"gpu_utilization": 0.87, "power_w": 412.35}),
    "no power": ("5, [N/A]", {"gpu_utilization": 0.05}),
    "no load": ("[Not Supported], 30.1", {"power_w": 30.1}),
    "neither": ("[N/A], [N/A]", {}),
    "an error": ("Unable to determine the device handle for GPU", {}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize(("line", "expected"), LOADS.values(), ids=LOADS)
def test_loads(line: str, expected: Dict[str, float]) -> None:
    assert parse_load(line) == expected


CHOICES = {
    "named": ("NVIDIA H100 80GB HBM3 (sm_90)", [A10, H100], H100),
    "not the one whose name is longer": ("NVIDIA A10 (sm_86)", [A100, A10], A10),
    "one of several": ("NVIDIA A10 (sm_86)", [A10, A10], None),
    "none": ("cpu", [H100], None),
}


@pytest.mark.parametrize(("device", "cards", "expected"), CHOICES.values(), ids=CHOICES)
def test_the_card_an_engine_runs_on(
    device: str, cards: List[Card], expected: Optional[Card]
) -> None:
    assert card_of(device, cards) is expected


def tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_tool_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, 'echo "GPU-3, NVIDIA A100, 570.86.15, 1410, 400.00"')
    assert find_cards() == [A100]


@pytest.mark.parametrize("script", ["exit 9", "echo nothing useful"])
def test_a_tool_that_does_not_answer(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, monkeypatch, script)
    assert find_cards() == []


def test_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_cards() == []
    with pytest.raises(OSError, match="nvidia-smi"):
        CardLoad(A100, 0.25)


def test_a_card_is_read_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'echo "$@" > {tmp_path}/asked; while true; do echo "50, 200.0"; sleep 0.01; done'
    tool(tmp_path, monkeypatch, script)
    load = CardLoad(A100, 0.25)
    readings = load.readings()
    assert list(itertools.islice(readings, 2)) == [{"gpu_utilization": 0.5, "power_w": 200.0}] * 2
    load.close()
    assert all(readings)  # it ends
    load.close()
    asked = (tmp_path / "asked").read_text()
    assert "--id=GPU-3" in asked
    assert "--loop-ms=250" in asked
