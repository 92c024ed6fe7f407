"""What the driver of a graphics card tells of it; the only file that runs nvidia-smi."""

from __future__ import annotations

import logging
import shutil
import subprocess
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence

log = logging.getLogger(__name__)

_TOOL = "nvidia-smi"
_TIMEOUT_S = 20.0  # loading the driver of an idle card takes seconds
_FORMAT = "--format=csv,noheader,nounits"
_CARD_FIELDS = ("uuid", "name", "driver_version", "clocks.max.sm", "power.limit")
_LOAD_FIELDS = ("utilization.gpu", "power.draw")


@dataclass(frozen=True)
class Card:
    """A graphics card; None where the driver does not say."""

    uuid: str
    name: str
    driver: str
    highest_mhz: Optional[float]
    limit_w: Optional[float]


def parse_cards(text: str) -> List[Card]:
    """The cards in nvidia-smi's answer; lines that are none are left out."""
    rows = [_cells(line) for line in text.splitlines()]
    return [
        Card(row[0], row[1], row[2], _number(row[3]), _number(row[4]))
        for row in rows
        if len(row) == len(_CARD_FIELDS)
    ]


def parse_load(line: str) -> Dict[str, float]:
    """Busy share 0..1 and watts of one line of nvidia-smi; what it does not know is absent."""
    cells = _cells(line)
    if len(cells) != len(_LOAD_FIELDS):
        return {}
    busy_pct, power_w = map(_number, cells)
    load = {} if busy_pct is None else {"gpu_utilization": busy_pct / 100}
    return load if power_w is None else {**load, "power_w": power_w}


def card_of(device: str, cards: Sequence[Card]) -> Optional[Card]:
    """The card that an engine's `device` names; None where several could be meant."""
    named = [card for card in cards if device == card.name or device.startswith(f"{card.name} (")]
    return named[0] if len(named) == 1 else None


def find_cards() -> List[Card]:
    """The cards of this machine; none where the tool is not there or does not answer."""
    tool = shutil.which(_TOOL)
    if tool is None:
        return []
    query = [tool, f"--query-gpu={','.join(_CARD_FIELDS)}", _FORMAT]
    try:
        answer = subprocess.run(query, capture_output=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.info("%s does not answer: %s", _TOOL, error)
        return []
    return parse_cards(answer.stdout.decode(errors="replace"))


class CardLoad:
    """A card's load, as often as it is asked for; raises OSError where the tool cannot run."""

    power_of = "the graphics card"

    def __init__(self, card: Card, interval_s: float) -> None:
        self._process = subprocess.Popen(
            [
                shutil.which(_TOOL) or _TOOL,
                f"--query-gpu={','.join(_LOAD_FIELDS)}",
                _FORMAT,
                f"--id={card.uuid}",
                f"--loop-ms={round(1000 * interval_s)}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C on the terminal is for the command, which ends this.
            start_new_session=True,
        )

    def readings(self) -> Iterator[Dict[str, float]]:
        """Each reading as it comes, until `close`."""
        assert self._process.stdout is not None  # it was asked for
        with self._process.stdout as lines:
            for line in lines:
                yield parse_load(line.decode(errors="replace"))

    def close(self) -> None:
        """Ends the tool."""
        self._process.kill()
        self._process.wait()


def _cells(line: str) -> List[str]:
    return [cell.strip() for cell in line.split(",")]


def _number(cell: str) -> Optional[float]:
    """None for `[N/A]` and the like."""
    try:
        return float(cell)
    except ValueError:
        return None
