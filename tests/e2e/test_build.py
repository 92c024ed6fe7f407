"""`edge build` as a process: real images, a real model, real signals, real damage."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import onnx
import pytest
import yaml
from onnx import numpy_helper

from edge.config.schema import Backend
from tests.building import spoiled
from tests.e2e.daemon import MODEL, Edge
from tests.mosquitto import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 45.0
# Some of them are held out, and show the ten boxes that the gate asks for.
IMAGES = 30
CAP_DAC_OVERRIDE = 1
PR_CAPBSET_DROP = 24

StartEdge = Callable[..., Edge]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((REPOSITORY / "calibration").glob("*.jpg"))[:IMAGES]:
        shutil.copy(path, folder)
    return folder


def write(folder: Path, images: Path, *, model: Path = MODEL, **gate: float) -> Path:
    """A config in `folder` whose state lies beside it; few boxes are enough for its gate."""
    config: Dict[str, Any] = {
        "device": {"state_dir": "state"},
        "model": {"path": str(model)},
        "engine": {"backend": "onnxruntime", "threads": 2},
        "calibration": {"folder": str(images), "method": "minmax", "holdout": 0.25},
        "gate": {"min_boxes": 10, "max_loss": 0.2, **gate},
        "cameras": [{"name": "a", "uri": "synthetic://1"}],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Tuple[Path, str]:
    """A folder with a config and the engines built for it, and what the build printed."""
    folder = tmp_path_factory.mktemp("built")
    process = Edge("build", "-c", str(write(folder, images)))
    try:
        assert process.wait(PATIENCE_S) == 0, process.stderr
        return folder, process.stdout()
    finally:
        process.close()


@pytest.fixture
def again(tmp_path: Path, built: Tuple[Path, str]) -> Path:
    """A copy of what was built, to be damaged."""
    return Path(shutil.copytree(built[0], tmp_path / "again"))


def engine_in(folder: Path) -> Path:
    return next((folder / "state/engines").glob("onnxruntime-int8-*.engine"))


def assert_nothing_kept(folder: Path) -> None:
    left = {path.name for path in (folder / "state").rglob("*") if path.is_file()}
    assert not {name for name in left if name.endswith((".engine", ".json"))}, left


# --- what is printed ------------------------------------------------------------------------------


def test_the_first_build_says_what_serves_and_why(built: Tuple[Path, str]) -> None:
    folder, text = built
    lines = text.splitlines()
    assert lines[0].startswith("model     parts: yolov8 head, input 320x320")
    assert [line.split()[1] for line in lines if line.startswith("engine ")] == ["fp32", "int8"]
    assert any(line.startswith("int8 passed the gate") for line in lines)
    assert lines[-1].startswith("serves    int8, after ")
    assert str(folder / "state/engines") in lines[-1]
    assert engine_in(folder).stat().st_size > 100_000


def test_the_second_build_finds_it_and_builds_nothing(again: Path, edge: StartEdge) -> None:
    written = {path: path.stat().st_mtime_ns for path in (again / "state/engines").iterdir()}
    process = edge("build", "-c", again / "config.yaml", "--json")
    assert process.wait(PATIENCE_S) == 0, process.stderr
    summary = json.loads(process.stdout())
    assert summary["schema"] == "edge.build/1"
    assert (summary["wanted"], summary["serves"]["precision"]) == ("int8", "int8")
    assert summary["cache"] == {"int8": "hit"}
    assert (summary["gate"]["int8"]["schema"], summary["gate"]["int8"]["verdict"]) == (
        "edge.gate/1",
        "pass",
    )
    assert (summary["message"], summary["is_complete"]) == ("", True)
    assert {p: p.stat().st_mtime_ns for p in (again / "state/engines").iterdir()} == written
    assert process.stderr == ""  # no worker, so no progress


def test_what_the_gate_refuses_does_not_serve(
    tmp_path: Path, images: Path, edge: StartEdge
) -> None:
    config = write(tmp_path, images, min_boxes=10_000)
    process = edge("build", "-c", config)
    assert process.wait(PATIENCE_S) == 0, process.stderr
    text = process.stdout()
    assert "10000" in text
    assert text.splitlines()[-1].startswith("serves    fp32")
    assert not list(tmp_path.rglob("*.engine"))
    # Nothing has changed, so nothing is tried again.
    process = edge("build", "-c", config, "--json")
    assert process.wait(PATIENCE_S) == 0, process.stderr
    summary = json.loads(process.stdout())
    assert summary["cache"] == {"int8": "refused by the gate", "fp32": "hit"}
    assert summary["serves"]["precision"] == "fp32"
    assert summary["gate"]["int8"]["verdict"] == "not_enough_evidence"
    assert process.stderr == ""


def test_scales_that_ruin_the_detections_are_refused(tmp_path: Path, edge: StartEdge) -> None:
    config = spoiled.write_config(tmp_path, Backend.ONNXRUNTIME, spoiled.DARK)
    process = edge("build", "-c", config, "--json")
    assert process.wait(PATIENCE_S) == 0, process.stderr
    summary = json.loads(process.stdout())
    assert summary["gate"]["int8"]["verdict"] == "fail"
    assert summary["gate"]["int8"]["overall"]["loss"] > 0.5
    assert summary["serves"]["precision"] == "fp32"


def test_scales_of_the_same_scene_pass(tmp_path: Path, edge: StartEdge) -> None:
    config = spoiled.write_config(tmp_path, Backend.ONNXRUNTIME, spoiled.BRIGHT)
    process = edge("build", "-c", config, "--json")
    assert process.wait(PATIENCE_S) == 0, process.stderr
    summary = json.loads(process.stdout())
    assert summary["gate"]["int8"]["verdict"] == "pass"
    assert summary["serves"]["precision"] == "int8"


# --- what cannot be used --------------------------------------------------------------------------


def missing(folder: Path, images: Path) -> None:
    pass


def empty(folder: Path, images: Path) -> None:
    folder.mkdir()


def one(folder: Path, images: Path) -> None:
    folder.mkdir()
    shutil.copy(sorted(images.iterdir())[0], folder)


def corrupt(folder: Path, images: Path) -> None:
    folder.mkdir()
    for path in sorted(images.iterdir())[:15]:
        (folder / path.name).write_bytes(path.read_bytes()[:900])


BAD_FOLDERS: Dict[str, Tuple[Callable[[Path, Path], None], str, bool]] = {
    "missing": (missing, "does not exist", False),
    "empty": (empty, "has no images", False),
    "one image": (one, "only 1 of its 1 images can be used", True),
    "corrupt": (corrupt, "unreadable or cut short: calibration_000.jpg", True),
}


@pytest.mark.parametrize(("make", "said", "serves"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_a_folder_of_no_use_is_one_line(
    tmp_path: Path,
    images: Path,
    edge: StartEdge,
    make: Callable[[Path, Path], None],
    said: str,
    serves: bool,
) -> None:
    make(tmp_path / "images", images)
    process = edge("build", "-c", write(tmp_path, tmp_path / "images"))
    assert process.wait(PATIENCE_S) == 78
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert process.stderr.startswith("edge build: calibration.folder: ")
    assert said in process.stderr
    assert ("serves    fp32" in process.stdout()) == serves
    assert_nothing_kept(tmp_path)


def without_override() -> None:
    """In a child to be: root is bound by the permissions of files, as others are."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def test_a_state_dir_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, images: Path
) -> None:
    config = write(tmp_path, images)
    (tmp_path / "state").mkdir(mode=0o500)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "build", "-c", str(config), "--json"],
        capture_output=True,
        preexec_fn=without_override,
        encoding="utf-8",
        timeout=PATIENCE_S,
        cwd=REPOSITORY,
    )
    assert done.returncode == 78, done.stderr
    assert done.stderr == (
        f"edge build: cannot keep the engine in {tmp_path}/state/engines: Permission denied; "
        "free disk space or correct device.state_dir\n"
    )
    summary = json.loads(done.stdout)
    assert summary["serves"]["precision"] == "fp32"
    assert "Permission denied" in summary["message"]


def test_weights_that_are_no_numbers_are_named(
    tmp_path: Path, images: Path, edge: StartEdge
) -> None:
    model = onnx.load(str(MODEL))
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4][5]
    values = numpy_helper.to_array(weights).copy()
    values.flat[7] = float("nan")
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, str(tmp_path / "spoiled.onnx"))
    process = edge("build", "-c", write(tmp_path, images, model=tmp_path / "spoiled.onnx"))
    assert process.wait(PATIENCE_S) == 78
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert f"spoiled.onnx: the weights '{weights.name}' hold no numbers" in process.stderr
    assert_nothing_kept(tmp_path)


# --- what is no longer what it was ----------------------------------------------------------------


def test_an_engine_of_another_version_is_named(again: Path, edge: StartEdge) -> None:
    path = again / "state/engines/onnxruntime-int8.json"
    manifest = json.loads(path.read_text("utf-8"))
    now = manifest["fingerprint"]["backend"]["version"]
    manifest["fingerprint"]["backend"]["version"] = "1.2.3"
    path.write_text(json.dumps(manifest))
    process = edge("--log-level", "info", "build", "-c", again / "config.yaml")
    said = f"no int8 engine to use again: backend.version was 1.2.3 and is {now}"
    wait_for(lambda: said in process.stderr, "the reason", PATIENCE_S)


# --- ends before the end --------------------------------------------------------------------------


def calibrating(config: Path, edge: StartEdge) -> Edge:
    """A build that calibrates at present."""
    process = edge("--log-level", "info", "build", "-c", config)
    wait_for(
        lambda: "INFO edge.building.engine_news: calibrating int8" in process.stderr,
        "the calibration",
        PATIENCE_S,
    )
    return process


@pytest.mark.parametrize(
    ("number", "is_for_group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)],
    ids=["SIGTERM", "SIGTERM to all", "Ctrl-C"],
)
def test_a_signal_ends_it_soon_and_keeps_nothing_half_made(
    tmp_path: Path, images: Path, edge: StartEdge, number: signal.Signals, is_for_group: bool
) -> None:
    process = calibrating(write(tmp_path, images), edge)
    if is_for_group:
        os.killpg(process.process.pid, number)
    else:
        process.signal(number)
    assert process.wait() == 0, process.stderr
    assert process.stdout().splitlines()[-1] == "interrupted: what was finished is kept"
    assert "Traceback" not in process.stderr
    assert_nothing_kept(tmp_path)


def test_an_engine_cut_short_is_built_again_even_after_a_kill_in_the_middle(
    again: Path, edge: StartEdge
) -> None:
    config = again / "config.yaml"
    size = engine_in(again).stat().st_size
    os.truncate(engine_in(again), 1000)
    process = calibrating(config, edge)
    process.signal(signal.SIGKILL)
    process.wait()
    # Killed while it wrote, it would leave this, and the manifest of the engine before.
    half = again / "state/engines/onnxruntime-int8-0123456789ab.engine.7.tmp"
    half.write_bytes(b"half an engine")
    process = edge("build", "-c", config, "--json")
    assert process.wait(PATIENCE_S) == 0, process.stderr
    summary = json.loads(process.stdout())
    assert f"has 1000 of {size} bytes" in summary["cache"]["int8"]
    assert summary["serves"]["precision"] == "int8"
    assert engine_in(again).stat().st_size == size
    assert not half.exists()
