"""What the service of jetson-stats says, as flat numbers, and its troubles in plain words."""

from __future__ import annotations

import json
import math
import re
from importlib.util import find_spec
from pathlib import Path
from sys import executable
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from edge.clock import NS_PER_S
from edge.errors import ProbeError
from edge.health.rails import rail_key, total_milliwatts
from edge.health.thermal import is_plausible, zone_name

Numbers = Dict[str, float]

SOCKET = Path("run/jtop.sock")

_KB_PER_MB = 1024
_KHZ_PER_MHZ = 1000
_FREE_BLOCK_MB = 4.0  # what the service counts: blocks of the kernel's highest order


# --- whom to ask -------------------------------------------------------------------------------


def command(root: Path, interval_s: float) -> Sequence[str]:
    """What speaks to the service; raises ProbeError where nobody can."""
    socket = root / SOCKET
    if not socket.exists():
        raise ProbeError(
            f"no {socket}: start the service on the host (systemctl start jtop), and mount the "
            "socket where this is a container"
        )
    if find_spec("jtop") is None:
        raise ProbeError("jetson-stats is not installed: pip install the host's version of it")
    return [executable, "-m", "edge.health.probes.jtop_client", str(socket), str(interval_s)]


def explain(trouble: str) -> str:
    """The library's complaint, with what to do about it."""
    for pattern, advice in _ADVICE:
        found = pattern.search(trouble)
        if found is not None:
            return advice.format(*found.groups())
    return trouble.splitlines()[0] if trouble else "it fails and does not say why"


_ADVICE: Tuple[Tuple[Any, str], ...] = (
    (
        re.compile(r"Mismatch version.*?\[(.*?)\].*?\[(.*?)\]"),
        "the service is version {0}, the library here {1}: pip install jetson-stats=={0}",
    ),
    (
        re.compile("Mismatch of Python versions"),
        "the service runs on another version of Python than the library here, and neither "
        "understands the other: use the host's Python version",
    ),
    (
        re.compile("can't access"),
        "no permission to open its socket: join the group jtop (usermod -aG jtop, or --group-add "
        "with the number of the host's group)",
    ),
    (
        re.compile("is not active"),
        "nobody answers at its socket: restart the service on the host (systemctl restart jtop)",
    ),
    (
        re.compile("Authentication"),
        "the service does not know the library here: install the same jetson-stats on both sides",
    ),
    (re.compile("Lost connection|Error connection"), "the connection to the service broke"),
)


# --- what it says ------------------------------------------------------------------------------


class JtopReader:
    """Understands the client's lines; `patience_s` is how long readings may stay as they are."""

    def __init__(self, patience_s: float) -> None:
        self._patience_ns = int(patience_s * NS_PER_S)
        self._uptime_s: Optional[float] = None
        self._moved_ns = 0

    def __call__(self, now_ns: int, line: str) -> Mapping[str, float]:
        """Flat numbers, none where they are the last ones again.

        Raises ProbeError where the line tells of trouble, or the service stands still: it may
        hand out its last readings for ever.
        """
        try:
            said = _dict(json.loads(line))
        except ValueError:
            return {}  # the library's own chatter
        if "trouble" in said:
            raise ProbeError(explain(str(said["trouble"])))
        uptime_s = _number(said.get("uptime_s"))
        if uptime_s is None or uptime_s != self._uptime_s:
            self._uptime_s, self._moved_ns = uptime_s, now_ns
            return numbers_of(said)
        if now_ns - self._moved_ns > self._patience_ns:
            raise ProbeError(
                "the service says the same over and over: restart it on the host "
                "(systemctl restart jtop)"
            )
        return {}


def numbers_of(said: Mapping[str, Any]) -> Numbers:
    """Whatever of it is a number and known; the rest is absent."""
    numbers: Dict[str, Optional[float]] = {
        **_cpus(_dict(said.get("cpu"))),
        **_memory(_dict(said.get("memory"))),
        **_gpu(_dict(said.get("gpu"))),
        **_engines(_dict(said.get("engine"))),
        **_fan(_dict(said.get("fan"))),
        "nvpmodel_id": _number(said.get("nvpmodel_id")),
    }
    clocks = said.get("jetson_clocks")
    if isinstance(clocks, bool):
        numbers["jetson_clocks"] = int(clocks)
    known = {key: number for key, number in numbers.items() if number is not None}
    return {
        **known,
        **_temperatures(_dict(said.get("temperature"))),
        **_power(_dict(said.get("power"))),
    }


def _cpus(cpu: Mapping[str, Any]) -> Dict[str, Optional[float]]:
    numbers: Dict[str, Optional[float]] = {}
    cores = cpu.get("cpu")
    for index, core in enumerate(map(_dict, cores if isinstance(cores, list) else ())):
        idle_pct = _number(core.get("idle"))
        if core.get("online") is not True:
            continue
        if idle_pct is not None:
            numbers[f"cpu_{index}_load_pct"] = round(100 - idle_pct, 1)
        numbers[f"cpu_{index}_freq_mhz"] = _mhz(_dict(core.get("freq")).get("cur"))
    return numbers


def _memory(memory: Mapping[str, Any]) -> Dict[str, Optional[float]]:
    ram, swap, emc = (_dict(memory.get(part)) for part in ("RAM", "SWAP", "EMC"))
    blocks = _number(ram.get("lfb"))
    return {
        "ram_used_mb": _mb(ram.get("used")),
        "ram_total_mb": _mb(ram.get("tot")),
        # Its 0 says that even the count is not known, or that all blocks left are smaller.
        "ram_lfb_mb": _FREE_BLOCK_MB if blocks else None,
        "ram_lfb_blocks": blocks or None,
        "gpu_mem_used_mb": _mb(ram.get("shared")),
        "swap_used_mb": _mb(swap.get("used")),
        "swap_total_mb": _mb(swap.get("tot")),
        "emc_load_pct": _number(emc.get("val")),
        "emc_freq_mhz": _mhz(emc.get("cur")),
    }


def _gpu(gpus: Mapping[str, Any]) -> Dict[str, Optional[float]]:
    numbers: Dict[str, Optional[float]] = {}
    for index, gpu in enumerate(map(_dict, gpus.values())):
        name = f"gpu{index + 1}" if index else "gpu"
        numbers[f"{name}_load_pct"] = _number(_dict(gpu.get("status")).get("load"))
        numbers[f"{name}_freq_mhz"] = _mhz(_dict(gpu.get("freq")).get("cur"))
    return numbers


def _engines(groups: Mapping[str, Any]) -> Dict[str, Optional[float]]:
    return {
        f"{_key(name)}_freq_mhz": _mhz(engine.get("cur"))
        for group in groups.values()
        for name, engine in _entries(_dict(group))
        if engine.get("online") is True
    }


def _fan(fans: Mapping[str, Any]) -> Dict[str, Optional[float]]:
    """The fastest: a module has one."""
    speeds, rounds = (
        [
            number
            for _, fan in _entries(fans)
            for number in map(_number, _list(fan.get(part)))
            if number is not None
        ]
        for part in ("speed", "rpm")
    )
    return {"fan_pct": max(speeds, default=None), "fan_rpm": max(rounds, default=None)}


def _temperatures(sensors: Mapping[str, Any]) -> Numbers:
    numbers: Numbers = {}
    for label, sensor in _entries(sensors):
        name, celsius = zone_name(label), _number(sensor.get("temp"))
        is_off = sensor.get("online") is False  # it then reads -256
        if name is not None and celsius is not None and is_plausible(celsius) and not is_off:
            numbers[f"temp_{name}_c"] = celsius
    return numbers


def _power(power: Mapping[str, Any]) -> Numbers:
    rails_mw = {
        label: milliwatts
        for label, rail in _entries(_dict(power.get("rail")))
        for milliwatts in [_number(rail.get("power"))]
        if milliwatts is not None
    }
    total = _dict(power.get("tot"))
    total_mw = _number(total.get("power"))
    # The rail that is the total is taken out of the others.
    if total_mw is not None and isinstance(total.get("name"), str):
        rails_mw[str(total["name"])] = total_mw
    numbers = {rail_key(label): milliwatts for label, milliwatts in rails_mw.items()}
    everything_mw = total_milliwatts(rails_mw) if total_mw is None else total_mw
    return numbers if everything_mw is None else {**numbers, "power_total_mw": everything_mw}


# --- out of anything at all --------------------------------------------------------------------


def _dict(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _entries(group: Mapping[str, Any]) -> Iterator[Tuple[str, Dict[str, Any]]]:
    return ((name, entry) for name, entry in group.items() if isinstance(entry, dict))


def _number(value: Any) -> Optional[float]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # An integer of JSON may be larger than any float.
    return float(value) if is_number and abs(value) < _ABSURD and math.isfinite(value) else None


def _mb(value: Any) -> Optional[float]:
    kilobytes = _number(value)
    return None if kilobytes is None else round(kilobytes / _KB_PER_MB, 1)


def _mhz(value: Any) -> Optional[float]:
    kilohertz = _number(value)
    return None if kilohertz is None else kilohertz / _KHZ_PER_MHZ


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


_ABSURD = 1e15
