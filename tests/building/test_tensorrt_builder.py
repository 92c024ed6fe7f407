from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from edge.building.tensorrt_builder import BuildCaches
from edge.building.tensorrt_config import BuildOptions
from edge.config.schema import (
    EngineConfig,
    Precision,
    TacticSource,
)
from edge.errors import BuildError, ConfigError, EngineOutOfMemory, ModelError
from edge.records import BuildPhase, DeployedGraph
from tests.building.tensorrt_rig import (
    HEIGHT,
    OPTIONS,
    WIDTH,
    deployed,
    feed_of,
    rig_of,
)
from tests.building.tensorrt_world import TIMINGS
from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import (
    CALIBRATED,
    STRONGLY_TYPED,
    VERSIONS,
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    return deployed(tmp_path_factory.mktemp("models"))


# --- float engines -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_float32_engine(graph: DeployedGraph, version: str) -> None:
    with rig_of(graph, version) as rig:
        assert rig.builder.build(Precision.FP32) == b"plan 1"
        (build,) = rig.world.builds
    assert build.pools == {"WORKSPACE": 1 << 28}
    assert build.shapes == ("frames", *[(n, HEIGHT, WIDTH, 3) for n in (1, 4, 8)])
    assert build.flags == set()
    assert build.cleared == ({"TF32"} if version in CALIBRATED else set())
    # Older ones could not read these timings back.
    is_read_back = version.startswith(("10.", "11."))
    assert rig.builder.caches.timing == (TIMINGS if is_read_back else b"")


def test_the_network_has_an_explicit_batch_or_strong_types(graph: DeployedGraph) -> None:
    made: Dict[str, int] = {}
    for version in VERSIONS:
        with rig_of(graph, version) as rig:
            rig.builder.build(Precision.FP32)
            ((flags,),) = rig.world.arguments_of("Builder.create_network")
            kinds = rig.world.trt.NetworkDefinitionCreationFlag
            name = "STRONGLY_TYPED" if version in STRONGLY_TYPED else "EXPLICIT_BATCH"
            made[version] = flags
            assert flags == 1 << int(kinds[name])
    assert len(made) == len(VERSIONS)


@pytest.mark.parametrize("version", CALIBRATED)
def test_a_float16_engine(graph: DeployedGraph, version: str) -> None:
    with rig_of(graph, version) as rig:
        rig.builder.build(Precision.FP16)
        assert rig.world.builds[0].flags == {"FP16"}
        assert rig.world.builds[0].cleared == set()


def test_a_strongly_typed_tensorrt_does_not_turn_fp32_into_fp16(graph: DeployedGraph) -> None:
    refusal = pytest.raises(ConfigError, match=r"engine\.precision: TensorRT 11.*use int8 or fp32")
    with rig_of(graph, STRONGLY_TYPED[0]) as rig, refusal:
        rig.builder.build(Precision.FP16)


def test_a_gpu_that_is_slow_in_a_precision_is_told_of(graph: DeployedGraph) -> None:
    with rig_of(graph) as rig:
        rig.world.is_fast = False
        with pytest.raises(ConfigError, match="gains nothing from fp16; use fp32"):
            rig.builder.build(Precision.FP16)
        rig.builder.build(Precision.FP32)


def test_a_fixed_batch_is_the_whole_profile(tmp_path: Path) -> None:
    graph = deployed(tmp_path, batch=2)
    with rig_of(graph) as rig:
        rig.builder.build(Precision.FP16)
        assert {shape[0] for shape in rig.world.builds[0].shapes[1:]} == {2}
        with pytest.raises(ConfigError, match=r"set calibration\.batch: 2"):
            rig.builder.build_int8(feed_of(batch=4))


# --- what TensorRT refuses ---------------------------------------------------------------------

COMPLAINTS: Dict[str, Tuple[str, Any, str]] = {
    "operator": ("UNSUPPORTED_NODE", ModelError, "export it again with standard operators"),
    "graph": ("INVALID_GRAPH", BuildError, "No importer registered for op"),
    "memory": ("MEM_ALLOC_FAILED", EngineOutOfMemory, "No importer"),
}


@pytest.mark.parametrize(("code", "kind", "text"), COMPLAINTS.values(), ids=COMPLAINTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_operator_that_is_not_supported_is_named(
    graph: DeployedGraph, version: str, code: str, kind: Any, text: str
) -> None:
    with rig_of(graph, version) as rig:
        rig.world.unsupported, rig.world.code = "TopK", code
        with pytest.raises(kind, match=rf"operator TopK \(node 'edge/.*'\).*{text}") as caught:
            rig.builder.build(Precision.FP32)
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)


FAILURES: Dict[str, Tuple[List[str], Any, str]] = {
    "tactic": (["10: Could not find any implementation for node Conv_0."], BuildError, "Conv_0"),
    "memory": (["2: OutOfMemory (no further information)"], EngineOutOfMemory, "max_batch"),
    "silent": ([""], BuildError, "8.5.2.2 failed building the fp16 engine"),
}


@pytest.mark.parametrize(("lines", "kind", "text"), FAILURES.values(), ids=FAILURES)
def test_a_failed_build_tells_tensorrts_last_words(
    graph: DeployedGraph, lines: List[str], kind: Any, text: str
) -> None:
    with rig_of(graph) as rig:
        rig.world.fail_with = lines
        with pytest.raises(kind, match=text) as caught:
            rig.builder.build(Precision.FP16)
        assert type(caught.value) is kind
        assert rig.builder.caches.timing == b""


# --- devices -----------------------------------------------------------------------------------


def options_of(**changes: Any) -> BuildOptions:
    return dataclasses.replace(OPTIONS, **changes)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dla_has_one_batch_and_the_gpu_beside_it(graph: DeployedGraph, version: str) -> None:
    config = EngineConfig(dla_core=1, opt_batch=4)
    with rig_of(graph, version, BuildOptions.of(config, 8, 1 << 30)) as rig:
        rig.world.dla_cores = 2
        if version in CALIBRATED:
            rig.builder.build(Precision.FP16)
        else:
            quantized = dataclasses.replace(graph, precision=Precision.INT8)
            rig.builder._graph = quantized
            rig.builder.build(Precision.INT8)
        (build,) = rig.world.builds
        assert "GPU_FALLBACK" in build.flags
        assert build.config.DLA_core == 1
        assert build.config.default_device_type is rig.world.trt.DeviceType.DLA
        assert {shape[0] for shape in build.shapes[1:]} == {4}


def test_a_float32_engine_never_runs_on_a_dla(graph: DeployedGraph) -> None:
    with rig_of(graph, options=options_of(dla_core=0)) as rig:
        rig.builder.build(Precision.FP32)
        assert "GPU_FALLBACK" not in rig.world.builds[0].flags


NO_DLA = {
    "none": (0, 0, "Xavier has no deep-learning accelerator"),
    "number": (2, 2, "2 is not there, Xavier has 0 to 1"),
}


@pytest.mark.parametrize(("core", "cores", "text"), NO_DLA.values(), ids=NO_DLA)
def test_a_missing_dla_is_one_line(graph: DeployedGraph, core: int, cores: int, text: str) -> None:
    with rig_of(graph, options=options_of(dla_core=core)) as rig:
        rig.world.dla_cores = cores
        with pytest.raises(ConfigError, match=rf"engine\.dla_core: {text}") as caught:
            rig.builder.build(Precision.FP16)
        assert "\n" not in str(caught.value)


SPARSE = {"Volta": ((7, 2), False), "Turing": ((7, 5), False), "Ampere": ((8, 0), True)}


@pytest.mark.parametrize(("capability", "has_it"), SPARSE.values(), ids=SPARSE)
def test_sparse_weights_need_ampere(
    graph: DeployedGraph, capability: Tuple[int, int], has_it: bool
) -> None:
    host = HostCuda(capability=capability)
    with rig_of(graph, options=options_of(sparse_weights=True), host=host) as rig:
        if has_it:
            rig.builder.build(Precision.FP16)
            assert "SPARSE_WEIGHTS" in rig.world.builds[0].flags
        else:
            with pytest.raises(ConfigError, match=r"engine\.sparse_weights: .*begin at 8\.0"):
                rig.builder.build(Precision.FP16)


@pytest.mark.parametrize("version", VERSIONS)
def test_tactic_sources_become_a_mask(graph: DeployedGraph, version: str) -> None:
    sources = (TacticSource.EDGE_MASK_CONVOLUTIONS, TacticSource.JIT_CONVOLUTIONS)
    with rig_of(graph, version, options_of(tactic_sources=sources)) as rig:
        rig.builder.build(Precision.FP32)
        kinds = rig.world.trt.TacticSource
        mask = 1 << int(kinds.EDGE_MASK_CONVOLUTIONS) | 1 << int(kinds.JIT_CONVOLUTIONS)
        assert rig.world.builds[0].tactic_sources == mask


def test_a_tactic_source_that_went_is_named(graph: DeployedGraph) -> None:
    options = options_of(tactic_sources=(TacticSource.CUDNN,))
    refusal = pytest.raises(ConfigError, match=r"engine\.tactic_sources: TensorRT 11.* no cudnn")
    with rig_of(graph, STRONGLY_TYPED[0], options) as rig, refusal:
        rig.builder.build(Precision.FP32)


WORKSPACES = {
    "configured": (EngineConfig(workspace_mb=300), 1 << 34, 300),
    "half of what is free": (EngineConfig(), 1 << 30, 512),
    "at most": (EngineConfig(), 1 << 34, 2048),
}


@pytest.mark.parametrize(("config", "free", "megabytes"), WORKSPACES.values(), ids=WORKSPACES)
def test_scratch_memory(config: EngineConfig, free: int, megabytes: int) -> None:
    assert BuildOptions.of(config, 8, free).workspace_bytes == megabytes << 20


OPT_BATCHES = {"default": (None, 8), "smaller": (3, 3), "above the largest": (16, 8)}


@pytest.mark.parametrize(("configured", "batch"), OPT_BATCHES.values(), ids=OPT_BATCHES)
def test_the_best_batch_is_at_most_the_largest(configured: Optional[int], batch: int) -> None:
    options = BuildOptions.of(EngineConfig(opt_batch=configured), 8, 1 << 30)
    assert options.batches(None) == (1, batch, 8)
    assert options.batches(2) == (2, 2, 2)


# --- timing cache ------------------------------------------------------------------------------

TIMING_CACHES = {
    "none": (b"", b""),
    "own": (b"measured before", b"measured before"),
    "unreadable": (b"foreign", b""),
    "of another machine": (b"mismatch", b""),
}


@pytest.mark.parametrize(("given", "used"), TIMING_CACHES.values(), ids=TIMING_CACHES)
def test_only_timings_that_fit_are_used(graph: DeployedGraph, given: bytes, used: bytes) -> None:
    caches = BuildCaches(timing=given)
    with rig_of(graph, "10.3.0", caches=caches) as rig:
        rig.builder.build(Precision.FP32)
        assert rig.world.builds[0].timing_cache == used
        rig.builder.build(Precision.FP16)
        assert rig.world.builds[1].timing_cache == TIMINGS
    assert caches.timing == TIMINGS


# --- progress ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_progress_grows_to_the_end(graph: DeployedGraph, version: str) -> None:
    with rig_of(graph, version) as rig:
        rig.builder.build(Precision.FP32)
        done = [p.done or 0.0 for p in rig.progress]
    assert len(done) >= 4
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert {p.phase for p in rig.progress} == {BuildPhase.BUILDING}
    assert {p.precision for p in rig.progress} == {Precision.FP32}


@pytest.mark.parametrize("version", CALIBRATED)
def test_progress_of_int8_counts_batches_and_both_builds(
    graph: DeployedGraph, version: str
) -> None:
    with rig_of(graph, version) as rig:
        rig.builder.build_int8(feed_of(count=3))
        calibrating = [p for p in rig.progress if p.phase is BuildPhase.CALIBRATING]
        building = [p.done or 0.0 for p in rig.progress if p.phase is BuildPhase.BUILDING]
    assert [p.done for p in calibrating] == [1 / 3, 2 / 3, 1.0]
    assert calibrating[0].message == "calibration batch 1 of 3"
    assert building == sorted(building)
    assert building[-1] == 1.0
    assert {0.2, 0.6} <= set(building)
