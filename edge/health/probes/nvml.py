"""The driver of an NVIDIA card; the only file that uses pynvml."""

from __future__ import annotations

import importlib
import threading
from typing import Any, Callable, Dict, Mapping, Optional

from edge.clock import NS_PER_S, Clock
from edge.errors import ProbeError
from edge.health.probes.probe import Sample
from edge.records import HealthSource

Numbers = Dict[str, float]

_MIB = float(2**20)
_RETRY_NS = 60 * NS_PER_S


class NvmlProbe:
    """Asks the driver for the first card it lets this process see, whenever it is asked."""

    source = HealthSource.NVML

    def __init__(
        self, clock: Clock, load: Callable[[], Any] = lambda: importlib.import_module("pynvml")
    ):
        self._clock = clock
        self._load = load
        self._lock = threading.Lock()
        self._nvml: Any = None
        self._card: Any = None
        self._retry_ns = 0
        self.trouble = ""

    def start(self) -> None:
        """Opens the driver; where that fails, `trouble` says why, and it is tried again later."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            if self._nvml is not None or now_ns < self._retry_ns:
                return
            self._retry_ns = now_ns + _RETRY_NS
            try:
                self._open()
            except ProbeError as error:
                self.trouble = str(error)

    def stop(self, timeout_s: float) -> bool:
        """Closes the driver."""
        with self._lock:
            nvml, self._nvml = self._nvml, None
            if nvml is not None:
                _ask(nvml, nvml.nvmlShutdown)
        return True

    def latest(self) -> Optional[Sample]:
        """What the card says now; what it does not know is absent."""
        with self._lock:
            if self._nvml is None:
                return None
            numbers = _read(self._nvml, self._card)
        self.trouble = "" if numbers else "the driver does not answer"
        return Sample(self._clock.monotonic_ns(), numbers) if numbers else None

    def _open(self) -> None:
        try:
            nvml = self._load()
        except ImportError:
            raise ProbeError("pynvml is not installed: pip install nvidia-ml-py") from None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise ProbeError(f"no driver of an NVIDIA card: {error}") from error
        try:
            self._card = nvml.nvmlDeviceGetHandleByIndex(0)
        except nvml.NVMLError as error:
            _ask(nvml, nvml.nvmlShutdown)
            raise ProbeError(f"no NVIDIA card: {error}") from error
        self._nvml = nvml


def _read(nvml: Any, card: Any) -> Numbers:
    numbers: Numbers = {}
    busy = _ask(nvml, nvml.nvmlDeviceGetUtilizationRates, card)
    if busy is not None:
        numbers["gpu_load_pct"] = float(busy.gpu)
    memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, card)
    if memory is not None:
        numbers["gpu_mem_used_mb"] = round(memory.used / _MIB, 1)
        numbers["gpu_mem_total_mb"] = round(memory.total / _MIB, 1)
    single: Mapping[str, Any] = {
        "gpu_freq_mhz": _ask(nvml, nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_SM),
        "temp_gpu_c": _ask(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU),
        "power_gpu_mw": _ask(nvml, nvml.nvmlDeviceGetPowerUsage, card),
        "fan_pct": _ask(nvml, nvml.nvmlDeviceGetFanSpeed, card),
    }
    numbers.update({key: float(value) for key, value in single.items() if value is not None})
    reasons = _ask(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, card)
    if reasons is not None:
        too_hot = (
            nvml.nvmlClocksThrottleReasonSwThermalSlowdown
            | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        )
        numbers["throttled"] = int(bool(reasons & too_hot))
    return numbers


def _ask(nvml: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """What the driver answers; None where it does not know."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None
