"""What every benchmark prints and saves: its figures, and how and where they were measured."""

from __future__ import annotations

import argparse
import importlib
import json
import operator
import os
import platform
import re
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from edge import __version__
from edge.health.machine import read_machine

RESULTS = Path(__file__).resolve().parent / "results"

_COMPARISONS: Dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    ">": operator.gt,
}
_PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "paho-mqtt",
    "pycuda",
    "pydantic",
    "tensorrt",
    "torch",
    "torchvision",
    "ultralytics",
)


@dataclass(frozen=True)
class Bar:
    """What a figure is held to, for example `<=` 3."""

    sign: str
    limit: float

    def verdict(self, value: float) -> str:
        """PASS or MISS."""
        return "PASS" if _COMPARISONS[self.sign](value, self.limit) else "MISS"

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """One measured number; `meaning` is for people, `key` for programs."""

    key: str
    value: float
    unit: str
    meaning: str
    bar: Optional[Bar] = None

    def row(self) -> List[str]:
        """Its line in the table."""
        number = f"{self.value:.3g}" if abs(self.value) < 100 else f"{self.value:.0f}"
        verdict = f"{self.bar}  {self.bar.verdict(self.value)}" if self.bar else ""
        return [self.key, f"{number} {self.unit}".strip(), verdict, self.meaning]


class Report:
    """Gathers a benchmark's figures in the order in which they are to be read."""

    def __init__(self, benchmark: str, options: argparse.Namespace) -> None:
        self._benchmark = benchmark
        self._options = options
        self._figures: List[Figure] = []
        self._notes: List[str] = []
        self._load_at_start = os.getloadavg()[0]

    def add(
        self, key: str, value: float, unit: str, meaning: str, bar: Optional[Bar] = None
    ) -> None:
        """Takes a figure; progress goes to stderr, as the benchmarks take their time."""
        figure = Figure(key, round(float(value), 6), unit, meaning, bar)
        self._figures.append(figure)
        print("  ".join(figure.row()[:3]), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Takes a sentence that the figures cannot be read without."""
        self._notes.append(text)

    def as_json(self) -> Dict[str, Any]:
        """One flat object: the figures by key, then how they came about."""
        return {
            "benchmark": self._benchmark,
            **{figure.key: figure.value for figure in self._figures},
            "bars": {
                figure.key: {"bar": str(figure.bar), "verdict": figure.bar.verdict(figure.value)}
                for figure in self._figures
                if figure.bar is not None
            },
            "notes": self._notes,
            "quick": self._options.quick,
            "command": _command(self._benchmark),
            "device": describe_device(),
            "load": [round(self._load_at_start, 2), round(os.getloadavg()[0], 2)],
            "versions": _versions(),
        }

    def table(self) -> str:
        """For people."""
        rows = [figure.row() for figure in self._figures]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{self._benchmark} on {describe_device()}"]
        lines += [
            f"  {key:<{widths[0]}}  {number:>{widths[1]}}  {verdict:<{widths[2]}}  {meaning}"
            for key, number, verdict, meaning in rows
        ]
        lines += [f"  note: {note}" for note in self._notes]
        return "\n".join(lines)

    def publish(self) -> None:
        """Prints what was asked for, and saves it where that was asked for."""
        result = json.dumps(self.as_json(), indent=2)
        print(result if self._options.json else self.table())
        if self._options.save is not None:
            path = RESULTS / f"{self._benchmark}-{self._options.save or name_device()}.json"
            RESULTS.mkdir(exist_ok=True)
            path.write_text(result + "\n")
            print(f"saved {path}", file=sys.stderr)


def argument_parser(description: Optional[str]) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes: shows that it runs"
    )
    parser.add_argument(
        "--save",
        nargs="?",
        const="",
        metavar="DEVICE",
        help="also write benchmarks/results/<benchmark>-<DEVICE>.json",
    )
    return parser


def describe_device() -> str:
    """The machine in words."""
    module = read_machine().module
    if module is not None:
        return module
    cpu_info = _cpu_info()
    model = re.search(r"^model name\s*: (.+)$", cpu_info, re.MULTILINE)
    kind = ", virtual machine" if _is_virtual(cpu_info) else ""
    cpu = f", {model.group(1).strip()}" if model else ""
    return f"{platform.machine()}, {os.cpu_count()} cores{cpu}{kind}"


def name_device() -> str:
    """The machine as part of a file name, for example `x86-2core-vm`."""
    module = read_machine().module
    if module is not None:
        return re.sub(r"[^a-z0-9]+", "-", module.lower()).strip("-")
    machine = platform.machine()
    cpu = {"x86_64": "x86", "AMD64": "x86", "aarch64": "arm"}.get(machine, machine.lower())
    return f"{cpu}-{os.cpu_count()}core" + ("-vm" if _is_virtual(_cpu_info()) else "")


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _is_virtual(cpu_info: str) -> bool:
    flags = re.search(r"^flags\s*: (.+)$", cpu_info, re.MULTILINE)
    return flags is not None and "hypervisor" in flags.group(1).split()


def _command(benchmark: str) -> str:
    return " ".join(["python -m", f"benchmarks.{benchmark}", *map(shlex.quote, sys.argv[1:])])


def _versions() -> Dict[str, str]:
    """Of what was there; only OpenCV is asked itself, as it comes under several names."""
    versions = {"edge": __version__, "python": platform.python_version()}
    versions["opencv"] = str(importlib.import_module("cv2").__version__)
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def parse(description: Optional[str], arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """Reads the options of a benchmark that has none of its own."""
    return argument_parser(description).parse_args(arguments)
