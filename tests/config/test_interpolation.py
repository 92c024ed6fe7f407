from __future__ import annotations

import pytest

from edge.config.interpolation import has_reference, interpolate

ENVIRON = {"NAME": "value", "EMPTY": "", "DOLLARS": "${NAME}"}

FILLED = {
    "nothing": ("plain", "plain"),
    "whole": ("${NAME}", "value"),
    "inside": ("a-${NAME}-b", "a-value-b"),
    "twice": ("${NAME}${NAME}", "valuevalue"),
    "default unused": ("${NAME:-other}", "value"),
    "default for unset": ("${UNSET:-other}", "other"),
    "default for empty": ("${EMPTY:-other}", "other"),
    "empty default": ("${UNSET:-}", ""),
    "default with a colon": ("${UNSET:-rtsp://a:-b}", "rtsp://a:-b"),
    "set but empty": ("a${EMPTY}b", "ab"),
    "escaped": ("$${NAME}", "${NAME}"),
    "two escapes": ("$$$$", "$$"),
    "escape then reference": ("$$${NAME}", "$value"),
    "lone dollar": ("a$b $NAME $", "a$b $NAME $"),
    "values are not read again": ("${DOLLARS}", "${NAME}"),
}


@pytest.mark.parametrize(("text", "expected"), FILLED.values(), ids=FILLED)
def test_interpolate(text: str, expected: str) -> None:
    assert interpolate(text, ENVIRON) == expected


REFUSED = {
    "unset": ("${UNSET}", "environment variable UNSET is not set"),
    "unset beside a set one": ("${NAME}${UNSET}", "environment variable UNSET is not set"),
    "not closed": ("${NAME", "begins a reference"),
    "no name": ("${}", "begins a reference"),
    "digit first": ("${1A}", "begins a reference"),
    "other operator": ("${NAME:+x}", "begins a reference"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_filled_in(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        interpolate(text, ENVIRON)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", False), ("$$", False), ("$${A}", False), ("a$b", False), ("x${A:-}", True)],
)
def test_has_reference(text: str, expected: bool) -> None:
    assert has_reference(text) is expected
