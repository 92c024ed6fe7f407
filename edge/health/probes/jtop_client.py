"""Speaks to the service of jetson-stats: what that says goes to stdout, one JSON object a line.

`python -m edge.health.probes.jtop_client SOCKET INTERVAL_S`

A process of its own, for the library changes how its process starts others, runs half a dozen
programs of its own accord, and waits for ever for a service that hangs. Its licence is the AGPL:
the appliance itself never loads it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, Dict, Sequence


def main(arguments: Sequence[str]) -> int:
    """Says readings until there are none; `trouble` says why in the library's words."""
    socket, interval_s = arguments
    try:
        library = importlib.import_module("jtop")
        # The place of the socket is a constant of the library.
        importlib.import_module("jtop.service").JTOP_PIPE = socket  # type: ignore[attr-defined]
    except ImportError as error:
        return _complain(f"jetson-stats cannot be loaded: {error}")
    try:
        board = library.jtop(interval=float(interval_s))
        board.start()
        while board.ok():
            _say(readings(board))
    except library.JtopException as error:
        return _complain(str(error))
    except (EOFError, ConnectionError) as error:
        return _complain(f"Lost connection: {error}")
    return _complain("it says nothing new")


def readings(board: Any) -> Dict[str, Any]:
    """All that the library tells, in its own shape and units."""
    return {
        "uptime_s": board.uptime.total_seconds(),
        "cpu": dict(board.cpu),
        "memory": dict(board.memory.items()),
        "gpu": dict(board.gpu.items()),
        "engine": board.engine,
        "temperature": board.temperature,
        "power": board.power,
        "fan": dict(board.fan.items()),
        "nvpmodel_id": None if board.nvpmodel is None else board.nvpmodel.id,
        "jetson_clocks": None if board.jetson_clocks is None else bool(board.jetson_clocks),
    }


def _complain(words: str) -> int:
    _say({"trouble": words})
    return 1


def _say(said: Dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # The library's threads do not all end.
    os._exit(code)
