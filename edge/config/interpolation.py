"""`${NAME}` and `${NAME:-default}` in the values of the file."""

from __future__ import annotations

import re
from typing import Mapping, Match

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<has_default>:-(?P<default>[^}]*))?\}"
    r"|(?P<malformed>\{))"
)


def has_reference(text: str) -> bool:
    """Tells whether part of `text` may come from the environment, and so may be secret."""
    return any(match["name"] or match["malformed"] for match in _REFERENCE.finditer(text))


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Fills in the references; `$$` stands for a dollar, any other lone `$` for itself.

    As in a shell, the default is also taken for a variable that is set but empty.
    Raises ValueError, with a reason for the user, where a variable is not set.
    """

    def fill(match: Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["malformed"]:
            raise ValueError("${ begins a reference: write ${NAME} or ${NAME:-default}, or $${")
        if match["has_default"]:
            return environ.get(match["name"]) or match["default"]
        if match["name"] not in environ:
            raise ValueError(
                f"environment variable {match['name']} is not set: set it, "
                f"or write ${{{match['name']}:-default}}"
            )
        return environ[match["name"]]

    return _REFERENCE.sub(fill, text)
