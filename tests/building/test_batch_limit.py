"""What is remembered of memory that ran out, and when it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from edge.building.batch_limit import FILE_NAME, LimitFile, LimitKey
from edge.config.schema import Precision
from tests.building.test_fingerprint import BACKEND, GRAPH

KEY = LimitKey(graph=GRAPH, backend=BACKEND, wanted=Precision.INT8, max_batch=8)


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    file = LimitFile(tmp_path / "engines", KEY)
    assert file.read() is None
    kept = file.keep(4, "600 MB are free")
    assert file.read() == kept
    assert file.words(kept) == (
        "at most 4 frames at once, as memory ran out with more (600 MB are free); to try more "
        f"again, delete {tmp_path / 'engines' / FILE_NAME}"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"graph": GRAPH.model_copy(update={"graph_sha256": "f" * 64})},
        {"backend": BACKEND.model_copy(update={"version": "10.3.0"})},
        {"backend": BACKEND.model_copy(update={"device": "Orin"})},
        {"wanted": Precision.FP16},
        {"max_batch": 6},
    ],
    ids=["network", "version", "device", "precision", "engine.max_batch"],
)
def test_it_means_nothing_for_anything_else(tmp_path: Path, change: Dict[str, Any]) -> None:
    LimitFile(tmp_path, KEY).keep(4, "no room")
    assert LimitFile(tmp_path, KEY.model_copy(update=change)).read() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": "edge.batch-limit/9"}', b" " * 100_000],
    ids=["empty", "cut", "no object", "no text", "newer", "huge"],
)
def test_a_damaged_file_is_ignored_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    file = LimitFile(tmp_path, KEY)
    assert file.read() is None
    assert f"ignored {tmp_path / FILE_NAME}: " in caplog.text
    file.keep(2, "no room")
    found = file.read()
    assert found is not None
    assert found.max_batch == 2


def test_a_limit_of_nothing_is_no_limit(tmp_path: Path) -> None:
    file = LimitFile(tmp_path, KEY)
    file.keep(4, "no room")
    content = json.loads((tmp_path / FILE_NAME).read_text("utf-8"))
    (tmp_path / FILE_NAME).write_text(json.dumps({**content, "max_batch": 0}))
    assert file.read() is None


def test_a_disk_that_cannot_be_written_only_costs_the_memory_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    file = LimitFile(tmp_path / "file", KEY)
    assert file.keep(4, "no room").max_batch == 4
    assert "cannot keep" in caplog.text
