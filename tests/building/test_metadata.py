from __future__ import annotations

from typing import Dict, Optional, Tuple

import pytest

from edge.building.metadata import class_names, input_wh
from edge.errors import ModelError

READABLE: Dict[str, str] = {
    "python dict": "{0: 'nut', 1: \"bolt's\"}",
    "json dict": '{"0": "nut", "1": "bolt\'s"}',
    "dict out of order": "{1: \"bolt's\", 0: 'nut'}",
    "python list": "['nut', \"bolt's\"]",
    "json list": '["nut", "bolt\'s"]',
}


@pytest.mark.parametrize("case", READABLE)
def test_reads_names(case: str) -> None:
    assert class_names(None, {"names": READABLE[case]}, 2) == ("nut", "bolt's")


def test_json_that_is_no_python() -> None:
    assert class_names(None, {"names": '{"0": "nut", "1": null}'}, 2) == ("nut", "None")


UNREADABLE: Dict[str, Tuple[str, str]] = {
    "one too few": ("{0: 'nut'}", "2 classes, but its metadata 'names' has 1"),
    "one too many": ("['a', 'b', 'c']", "2 classes, but its metadata 'names' has 3"),
    "hole": ("{0: 'nut', 2: 'bolt'}", "no class 1 of 2"),
    "from one": ("{1: 'nut', 2: 'bolt'}", "no class 0 of 2"),
    "number": ("80", "neither a list nor a mapping"),
    "code": ("__import__('os').getcwd()", "cannot be read"),
    "nothing": ("", "cannot be read"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_refuses_names(case: str) -> None:
    text, complaint = UNREADABLE[case]
    with pytest.raises(ModelError, match=complaint) as caught:
        class_names(None, {"names": text}, 2)
    assert "model.class_names" in str(caught.value)


def test_numbers_classes_without_names() -> None:
    assert class_names(None, {}, 3) == ("class_0", "class_1", "class_2")


def test_users_names_leave_broken_metadata_unread() -> None:
    assert class_names(["nut"], {"names": "{"}, 1) == ("nut",)


def test_names_tell_what_the_output_does_not() -> None:
    assert class_names(None, {"names": "['nut', 'bolt']"}, None) == ("nut", "bolt")
    assert class_names(["nut"], {}, None) == ("nut",)
    with pytest.raises(ModelError) as caught:
        class_names(None, {}, None)
    assert str(caught.value) == (
        "its output does not tell how many classes there are; list them in model.class_names"
    )


@pytest.mark.parametrize(
    ("imgsz", "expected"),
    [
        ("[480, 640]", (640, 480)),  # height first
        ("[640]", None),
        ("[640, 0]", None),
        ("[640, -1]", None),
        ("[640, 1.5]", None),
        ("[640, True]", None),
        ("640", None),
        ("", None),
        ("[640, 640", None),
    ],
)
def test_input_wh(imgsz: str, expected: Optional[Tuple[int, int]]) -> None:
    assert input_wh({"imgsz": imgsz}) == expected
    assert input_wh({}) is None
