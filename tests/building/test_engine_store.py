from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from edge.building.engine_store import EngineStore, Hit, Miss
from edge.building.fingerprint import Fingerprint
from edge.config.schema import Precision
from edge.errors import ConfigError
from edge.records import Lane
from tests.building.test_fingerprint import BACKEND, INT8

WHEN = "2026-11-22T12:00:00Z"
OTHER = INT8.model_copy(update={"backend": BACKEND.model_copy(update={"version": "10.3.0"})})
FP16 = INT8.model_copy(update={"precision": Precision.FP16, "calibration": None})


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def reason(found: object) -> str:
    assert isinstance(found, Miss)
    return found.reason


def test_finds_what_was_saved(store: EngineStore) -> None:
    assert reason(store.find(INT8)) == "none was built yet"
    store.save(INT8, WHEN, b"plan")
    assert store.find(INT8) == Hit(b"plan")


def test_names_what_has_changed(store: EngineStore) -> None:
    store.save(INT8, WHEN, b"plan")
    assert reason(store.find(OTHER)) == "backend.version was 8.5.2.2 and is 10.3.0"


def test_each_precision_has_its_own(store: EngineStore) -> None:
    store.save(INT8, WHEN, b"one")
    store.save(FP16, WHEN, b"two")
    assert store.find(INT8) == Hit(b"one")
    assert store.find(FP16) == Hit(b"two")


def test_each_lane_has_its_own(store: EngineStore) -> None:
    backend = BACKEND.model_copy(update={"lane": Lane.PRIORITY, "max_batch": 1})
    priority = INT8.model_copy(update={"backend": backend})
    for _ in range(2):  # neither sweeps the other's away
        store.save(INT8, WHEN, b"shared")
        store.save(priority, WHEN, b"priority")
    assert store.find(INT8) == Hit(b"shared")
    assert store.find(priority) == Hit(b"priority")
    assert (store.folder / "tensorrt-priority-int8.json").exists()


def test_an_engine_of_before_there_were_lanes_is_found(store: EngineStore) -> None:
    store.save(INT8, WHEN, b"plan")
    path = store.folder / "tensorrt-int8.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["fingerprint"]["backend"]["lane"]
    path.write_text(json.dumps(manifest))
    assert store.find(INT8) == Hit(b"plan")


def test_a_new_engine_replaces_the_old_file(store: EngineStore) -> None:
    store.save(INT8, WHEN, b"old")
    store.save(OTHER, WHEN, b"new")
    assert store.find(OTHER) == Hit(b"new")
    assert len(list(store.folder.glob("*.engine"))) == 1


def test_a_refusal_is_remembered_and_the_last_good_engine_kept(store: EngineStore) -> None:
    store.save(INT8, WHEN, b"good")
    store.save(OTHER, WHEN, None)
    assert store.find(OTHER) == Hit(None)
    assert store.find(INT8) == Hit(b"good")


def test_an_engine_ends_the_refusal(store: EngineStore) -> None:
    store.save(INT8, WHEN, None)
    store.save(INT8, WHEN, b"better")
    assert store.find(INT8) == Hit(b"better")
    assert not list(store.folder.glob("*.refused.json"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2])


def flip(path: Path) -> None:
    path.write_bytes(b"PLAN")


DAMAGES: Dict[str, Any] = {
    "cut short": (truncate, "has 2 of 4 bytes"),
    "flipped bits": (flip, "its checksum is wrong"),
    "gone": (Path.unlink, "is gone"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_engine_is_noticed(
    store: EngineStore, damage: Callable[[Path], None], said: str
) -> None:
    store.save(INT8, WHEN, b"plan")
    damage(next(store.folder.glob("*.engine")))
    assert said in reason(store.find(INT8))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": "edge.engine-file/9"}', b" " * 5_000_000],
    ids=["empty", "cut", "no object", "no text", "newer", "huge"],
)
def test_a_damaged_manifest_is_a_miss_not_a_crash(store: EngineStore, content: bytes) -> None:
    store.save(INT8, WHEN, b"plan")
    (store.folder / "tensorrt-int8.json").write_bytes(content)
    assert reason(store.find(INT8)).startswith("tensorrt-int8.json is damaged: ")
    store.save(INT8, WHEN, b"again")
    assert store.find(INT8) == Hit(b"again")


def test_what_a_killed_build_left_is_swept(store: EngineStore) -> None:
    store.save(FP16, WHEN, b"other")
    (store.folder / "tensorrt-int8-abc.engine.123.tmp").write_bytes(b"half")
    (store.folder / "tensorrt-int8.json.123.tmp").write_bytes(b"half")
    (store.folder / "tensorrt-int8-abc.engine").write_bytes(b"orphan")
    manifest = store.save(INT8, WHEN, b"plan")
    names = {path.name for path in store.folder.iterdir()}
    assert names == {
        manifest.file,
        "tensorrt-int8.json",
        "tensorrt-fp16.json",
        *(path.name for path in store.folder.glob("tensorrt-fp16-*.engine")),
    }


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot keep the engine in .*file.*state_dir"):
        EngineStore(tmp_path / "file").save(INT8, WHEN, b"plan")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full")
def test_a_full_disk_is_said_and_leaves_the_old_engine(
    store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(INT8, WHEN, b"plan")
    digest_of_new = "11507a0e2f5e"  # sha256 of b"new", where its file goes
    temporary = store.folder / f"tensorrt-int8-{digest_of_new}.engine.{os.getpid()}.tmp"
    temporary.symlink_to("/dev/full")
    with pytest.raises(ConfigError, match="No space left on device"):
        store.save(OTHER, WHEN, b"new")
    assert store.find(INT8) == Hit(b"plan")


def same(fingerprint: Fingerprint) -> Fingerprint:
    return Fingerprint.model_validate_json(fingerprint.model_dump_json())


def test_a_restart_finds_it(store: EngineStore) -> None:
    store.save(INT8, WHEN, b"plan", head_in_float=True)
    assert EngineStore(store.folder).find(same(INT8)) == Hit(b"plan")
