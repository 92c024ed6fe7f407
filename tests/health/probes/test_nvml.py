from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, Dict, NoReturn

import pytest

from edge.clock import NS_PER_S, ManualClock
from edge.health.probes.nvml import NvmlProbe


class NVMLError(Exception):
    """As the library's."""


def unknown(*arguments: Any) -> NoReturn:
    raise NVMLError("Not Supported")


def library(**calls: Callable[..., Any]) -> Any:
    """What pynvml offers, on a card that knows only what `calls` answer."""
    names = (
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetFanSpeed",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
    )
    known: Dict[str, Any] = {name: unknown for name in names}
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlClocksThrottleReasonSwThermalSlowdown=0x20,
        nvmlClocksThrottleReasonHwThermalSlowdown=0x40,
        nvmlInit=calls.pop("nvmlInit", lambda: None),
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=calls.pop("nvmlDeviceGetHandleByIndex", lambda index: index),
        **{**known, **calls},
    )


CARD = library(
    nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(gpu=87, memory=12),
    nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(used=3 * 2**30, total=80 * 2**30),
    nvmlDeviceGetClockInfo=lambda card, which: 1980,
    nvmlDeviceGetTemperature=lambda card, which: 41,
    nvmlDeviceGetPowerUsage=lambda card: 123_456,
    nvmlDeviceGetCurrentClocksThrottleReasons=lambda card: 0x44,
)


def probe_of(load: Callable[[], Any]) -> NvmlProbe:
    probe = NvmlProbe(ManualClock(), load)
    probe.start()
    return probe


def test_all_that_a_card_tells() -> None:
    probe = probe_of(lambda: CARD)
    sample = probe.latest()
    assert sample is not None
    assert sample.numbers == {
        "gpu_load_pct": 87,
        "gpu_mem_used_mb": 3072,
        "gpu_mem_total_mb": 81920,
        "gpu_freq_mhz": 1980,
        "temp_gpu_c": 41,
        "power_gpu_mw": 123_456,
        "throttled": 1,  # the fan is not known: this card has none
    }
    assert probe.trouble == ""
    assert probe.stop(1)
    assert probe.latest() is None


REASONS = {
    "idle": (0x1, 0),
    "power cap": (0x4, 0),
    "heat": (0x20, 1),
    "heat, in hardware": (0x40, 1),
}


@pytest.mark.parametrize(("reasons", "throttled"), REASONS.values(), ids=REASONS)
def test_only_heat_is_throttling(reasons: int, throttled: int) -> None:
    card = library(nvmlDeviceGetCurrentClocksThrottleReasons=lambda card: reasons)
    sample = probe_of(lambda: card).latest()
    assert sample is not None
    assert sample.numbers == {"throttled": throttled}


def missing() -> NoReturn:
    raise ModuleNotFoundError("No module named 'pynvml'")


TROUBLES = {
    "no library": (missing, "pip install nvidia-ml-py"),
    "no driver": (lambda: library(nvmlInit=unknown), "no driver of an NVIDIA card"),
    "no card": (lambda: library(nvmlDeviceGetHandleByIndex=unknown), "no NVIDIA card"),
}


@pytest.mark.parametrize(("load", "words"), TROUBLES.values(), ids=TROUBLES)
def test_why_there_is_nothing_to_say(load: Callable[[], Any], words: str) -> None:
    probe = probe_of(load)
    assert probe.latest() is None
    assert words in probe.trouble


def test_a_driver_that_does_not_answer_any_more() -> None:
    probe = probe_of(library)
    assert probe.latest() is None
    assert probe.trouble == "the driver does not answer"


def test_a_driver_that_comes_later_is_found() -> None:
    clock, loads = ManualClock(), []

    def load() -> Any:
        loads.append(1)
        return CARD if len(loads) > 1 else missing()

    probe = NvmlProbe(clock, load)
    for _ in range(60):
        probe.start()
        clock.advance_ms(1000)
    assert len(loads) == 1
    probe.start()
    assert probe.latest() is not None
    assert clock.monotonic_ns() == 60 * NS_PER_S
