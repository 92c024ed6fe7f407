from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import numpy as np
import pytest

from edge.building.labels import find_labels, read_labels
from edge.errors import ConfigError


def labels_of(folder: Path, text: str) -> Path:
    path = folder / "a.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_boxes_are_in_source_pixels(tmp_path: Path) -> None:
    path = labels_of(tmp_path, "2 0.5 0.5 0.5 0.25\n\n  0 0.1\t0.2 0.2 0.4  \n")
    labels = read_labels(path, (200, 100), 3)
    assert len(labels) == 2
    assert labels.class_ids.tolist() == [2, 0]
    assert labels.class_ids.dtype == np.int64
    assert labels.boxes_xyxy.dtype == np.float32
    assert labels.boxes_xyxy.tolist() == [[50, 37.5, 150, 62.5], [0, 0, 40, 40]]


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_an_empty_file_means_no_object(text: str, tmp_path: Path) -> None:
    labels = read_labels(labels_of(tmp_path, text), (200, 100), 3)
    assert len(labels) == 0
    assert labels.boxes_xyxy.shape == (0, 4)


def test_a_box_is_cut_at_the_edge(tmp_path: Path) -> None:
    path = labels_of(tmp_path, "0 1 1 0.5 1\n0 1.0009 0.5 0.5 0.5")
    boxes = read_labels(path, (100, 100), None).boxes_xyxy
    assert boxes[0].tolist() == [75, 50, 100, 100]
    assert boxes[1, 2] == 100


@pytest.mark.parametrize(
    ("line", "class_count", "expected"),
    [
        pytest.param("0 .5 .5 .5", 1, "has 4 numbers; expected 5", id="four"),
        pytest.param("0 .1 .1 .2 .1 .2 .2 .1 .2", 1, "has 9 numbers", id="an outline"),
        pytest.param("bolt .5 .5 .5 .5", 1, "'bolt .5 .5 .5 .5' is not five", id="a name"),
        pytest.param("0 .5 .5 .5 \x1b[2J", 1, r"\x1b[2J' is not five", id="terminal codes"),
        pytest.param("1.5 .5 .5 .5 .5", 9, "class 1.5 is not", id="half a class"),
        pytest.param("-1 .5 .5 .5 .5", 9, "class -1 is not", id="negative class"),
        pytest.param("nan .5 .5 .5 .5", 9, "class nan is not", id="class nan"),
        pytest.param("7 .5 .5 .5 .5", 7, "class 7 does not exist: the model has 0 to 6", id="7"),
        pytest.param("0 1.002 .5 .5 .5", 1, "0 to 1, not pixels", id="outside"),
        pytest.param("0 -.1 .5 .5 .5", 1, "0 to 1, not pixels", id="negative"),
        pytest.param("0 .5 .5 nan .5", 1, "0 to 1, not pixels", id="nan"),
        pytest.param("0 .5 .5 0 .5", 1, "no width or no height", id="no width"),
        pytest.param("0 .5 .5 .5 0.0", 1, "no width or no height", id="no height"),
    ],
)
def test_a_fault_has_its_place(
    line: str, class_count: Optional[int], expected: str, tmp_path: Path
) -> None:
    path = labels_of(tmp_path, f"0 .5 .5 .5 .5\n{line}\n")
    with pytest.raises(ConfigError) as raised:
        read_labels(path, (100, 100), class_count)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert expected in str(raised.value)


def test_any_class_will_do_where_the_model_is_unknown(tmp_path: Path) -> None:
    path = labels_of(tmp_path, "6 .5 .5 .5 .5")
    assert read_labels(path, (100, 100), 7).class_ids.tolist() == [6]
    assert read_labels(path, (100, 100), None).class_ids.tolist() == [6]


def test_what_is_no_text_is_no_label_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"a\.txt: is not text"):
        read_labels(tmp_path / "a.txt", (100, 100), None)
    with pytest.raises(ConfigError, match=r"b\.txt: cannot be read: No such file"):
        read_labels(tmp_path / "b.txt", (100, 100), None)


@pytest.mark.parametrize(
    ("present", "image", "expected"),
    [
        pytest.param(["f/a.txt"], "f/a.jpg", "f/a.txt", id="beside"),
        pytest.param(["f/labels/a.txt"], "f/a.jpg", "f/labels/a.txt", id="folder beside"),
        pytest.param(["f/a.txt", "f/labels/a.txt"], "f/a.jpg", "f/a.txt", id="beside goes first"),
        pytest.param(["labels/a.txt"], "images/a.jpg", "labels/a.txt", id="YOLO's layout"),
        pytest.param(["labels/a.txt"], "f/a.jpg", None, id="somebody else's folder"),
        pytest.param(["f/b.txt"], "f/a.jpg", None, id="another image's"),
        pytest.param(["f/a.txt/x"], "f/a.jpg", None, id="a folder"),
    ],
)
def test_where_labels_are_looked_for(
    present: List[str], image: str, expected: Optional[str], tmp_path: Path
) -> None:
    for name in present:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = find_labels(tmp_path / image)
    assert found == (None if expected is None else tmp_path / expected)
