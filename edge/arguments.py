"""What may stand on the command line; what may not, argparse tells the user."""

from __future__ import annotations

import argparse
from pathlib import Path

_DAY_S = 86_400
_MOST_CAMERAS = 64


def add_config(command: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    """The file that a command works by."""
    command.add_argument(
        "-c", "--config", type=Path, required=is_required, metavar="FILE", help="the YAML file"
    )


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def seconds_of_a_day(text: str) -> float:
    """A number above 0 of seconds, at most a day."""
    value = positive(text)
    if value > _DAY_S:
        raise argparse.ArgumentTypeError(f"must be at most {_DAY_S} (a day), got {text}")
    return value


def positive_count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text}")
    return int(text)


def camera_count(text: str) -> int:
    """A whole number of synthetic cameras, also none."""
    if not text.isdecimal() or int(text) > _MOST_CAMERAS:
        raise argparse.ArgumentTypeError(f"must be 0 to {_MOST_CAMERAS}, got {text}")
    return int(text)
