"""NVIDIA's `tegrastats`, line by line: every release since R32, as root and not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Match, NamedTuple, Optional, Pattern, Tuple

from edge.health.rails import rail_key, total_milliwatts
from edge.health.thermal import is_plausible, zone_name

Numbers = Dict[str, float]

_KB_PER_MB = 1024


@dataclass(frozen=True)
class Parsed:
    """What a line said: flat numbers, and how many of its words meant nothing to us."""

    numbers: Numbers = field(default_factory=dict)
    unknown: int = 0


def parse(line: str) -> Parsed:
    """Reads one line; what is unknown in it is passed over and counted, and nothing raises."""
    line = line.strip()
    numbers: Numbers = {}
    rails_mw: Numbers = {}
    unknown = position = 0
    while position < len(line):
        found = _match(line, position)
        if found is None:
            end = _END_OF_WORD.search(line, position)
            unknown += 1
            position = end.end() if end else len(line)
            continue
        kind, match = found
        numbers.update(kind.read(match))
        if kind is _RAIL:
            rails_mw[match["name"]] = float(match["now"])
        position = match.end()
    total = total_milliwatts(rails_mw)
    if total is not None:
        numbers["power_total_mw"] = total
    return Parsed(numbers, unknown)


# --- the kinds of field ------------------------------------------------------------------------


class _Field(NamedTuple):
    """`pattern` matches one field with the blanks behind it; `read` says what it tells."""

    pattern: Pattern[str]
    read: Callable[[Match[str]], Numbers]


def _match(line: str, position: int) -> Optional[Tuple[_Field, Match[str]]]:
    for kind in _FIELDS:
        match = kind.pattern.match(line, position)
        if match is not None:
            return kind, match
    return None


def _field(pattern: str, read: Callable[[Match[str]], Numbers]) -> _Field:
    return _Field(re.compile(pattern + r"(?:\s+|$)", re.ASCII), read)


def _nothing(match: Match[str]) -> Numbers:
    """Known, and of no use to anybody."""
    return {}


def _ram(match: Match[str]) -> Numbers:
    numbers = _amounts("ram", match)
    if match["lfb"] is not None:
        numbers["ram_lfb_mb"] = _mb(match["lfb"], match["lfb_unit"])
        numbers["ram_lfb_blocks"] = float(match["blocks"])
    return numbers


def _swap(match: Match[str]) -> Numbers:
    return _amounts("swap", match)


def _amounts(name: str, match: Match[str]) -> Numbers:
    return {
        f"{name}_used_mb": _mb(match["used"], match["unit"]),
        f"{name}_total_mb": _mb(match["total"], match["unit"]),
    }


def _cpus(match: Match[str]) -> Numbers:
    numbers: Numbers = {}
    loads: List[float] = []
    for index, words in enumerate(match["cores"].split(",")):
        # R32 of the first modules tells one clock behind the bracket.
        core = _CORE.fullmatch(words.strip())
        if core is None or float(core["load"]) > 100:
            continue  # switched off, or not a core
        loads.append(float(core["load"]))
        numbers[f"cpu_{index}_load_pct"] = loads[-1]
        mhz = core["mhz"] or match["mhz"]
        if mhz is not None:
            numbers[f"cpu_{index}_freq_mhz"] = float(mhz)
    if loads:
        numbers["cpu_load_pct"] = round(sum(loads) / len(loads), 1)
    return numbers


def _unit(match: Match[str]) -> Numbers:
    """A unit of the chip: its load where there is one, and its clock."""
    name = _unit_name(match["name"])
    numbers: Numbers = {}
    if match["load"] is not None and float(match["load"]) <= 100:
        numbers[f"{name}_load_pct"] = float(match["load"])
    clocks = [float(mhz) for mhz in re.findall(r"\d+", match["mhz"] or "")]
    if clocks:
        numbers[f"{name}_freq_mhz"] = max(clocks)  # one for each cluster of the GPU
    return numbers


def _unit_name(name: str) -> str:
    name = name.replace("_FREQ", "").lower()
    return re.sub(r"^gr3d", "gpu", name)


def _temperature(match: Match[str]) -> Numbers:
    name, celsius = zone_name(match["name"]), float(match["celsius"])
    return {f"temp_{name}_c": celsius} if name is not None and is_plausible(celsius) else {}


def _rail(match: Match[str]) -> Numbers:
    return {rail_key(match["name"]): float(match["now"])}


def _mb(amount: str, unit: str) -> float:
    return float(amount) if unit == "M" else round(float(amount) / _KB_PER_MB, 3)


_END_OF_WORD = re.compile(r"\s+")
_CORE = re.compile(r"(?P<load>\d{1,3})%(?:@(?P<mhz>\d{1,5}))?", re.ASCII)

_AMOUNT = r"(?P<used>\d{1,9})/(?P<total>\d{1,9})(?P<unit>[kM])B"
_CELSIUS = r"-?\d{1,4}(?:\.\d{1,6})?"
_MW = r"\d{1,7}(?:mW)?"

_RAIL = _field(rf"(?P<name>[A-Z]\w*) (?P<now>\d{{1,7}})(?:mW)?(?:/{_MW}){{1,2}}", _rail)

_FIELDS = (
    _field(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d", _nothing),
    _field(
        rf"RAM {_AMOUNT}(?: ?\(lfb (?P<blocks>\d{{1,7}})x(?P<lfb>\d{{1,7}})(?P<lfb_unit>[kM])B\))?",
        _ram,
    ),
    _field(rf"SWAP {_AMOUNT}(?: ?\(cached \d{{1,9}}[kM]B\))?", _swap),
    _field(rf"IRAM {_AMOUNT}(?: ?\(lfb \d{{1,9}}[kM]B\))?", _nothing),
    _field(r"CPU \[(?P<cores>[^\]]*)\](?:@(?P<mhz>\d{1,5}))?", _cpus),
    _field(r"MTS fg \d{1,3}% bg \d{1,3}%", _nothing),
    # A sensor that is off reads -256; R39 adds the highest so far.
    _field(rf"(?P<name>[A-Za-z]\w*)@(?P<celsius>{_CELSIUS})C(?:/{_CELSIUS}C)?", _temperature),
    _RAIL,
    _field(r"[A-Z]\w* off", _nothing),
    # `3%@1109`, `3%@[1300,1300]`, `@[1000,1000]`, `3%`, `150`
    _field(
        r"(?P<name>[A-Z]\w*) (?=[\d@])(?:(?P<load>\d{1,3})%)?"
        r"(?:(?:@|(?<= ))(?P<mhz>\d{1,5}|\[[\d,]{1,99}\]))?",
        _unit,
    ),
)
