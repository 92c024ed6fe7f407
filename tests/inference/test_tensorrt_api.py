"""Every name of TensorRT and pycuda in the source exists in every version, or is guarded."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Set, Tuple

import pytest

from edge.inference.cuda_driver import FUNCTIONS
from tests.inference.tensorrt_api import take
from tests.inference.tensorrt_api.double import VERSIONS, accepts, load, parameters

EDGE = Path(__file__).resolve().parents[2] / "edge"
SNAPSHOTS = {version: load(version) for version in VERSIONS}

V8 = frozenset(("8.5.2.2", "8.6.1"))
V10 = frozenset(("10.3.0", "10.16.1.11"))
V11 = frozenset(("11.4.0.106",))

# Which class a name in a file stands for.
RECEIVERS: Dict[str, Dict[str, str]] = {
    "inference/tensorrt.py": {
        "runtime": "Runtime",
        "_runtime": "Runtime",
        "engine": "ICudaEngine",
        "_engine": "ICudaEngine",
        "_open_engine": "ICudaEngine",
        "execution": "IExecutionContext",
        "_execution": "IExecutionContext",
    },
    "inference/tensorrt_log.py": {},
    "building/tensorrt_build.py": {
        "_builder": "Builder",
        "_config": "IBuilderConfig",
        "cache": "ITimingCache",
    },
    "building/tensorrt_builder.py": {},
    "building/tensorrt_calibrator.py": {},
    "building/tensorrt_config.py": {
        "builder": "Builder",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
    },
    "building/tensorrt_network.py": {
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "error": "ParserError",
        "layer": "ILayer",
        "output": "ITensor",
    },
    "building/tensorrt_progress.py": {},
}
# EngineConfig goes by the name of TensorRT's configuration in one function.
NOT_TENSORRT = {("building/tensorrt_config.py", "of")}

# Names that some versions lack, and the function that asks before it touches them.
GUARDED: Dict[str, Tuple[FrozenSet[str], str]] = {
    "BuilderFlag.FP16": (V11, "_set_precision"),
    "BuilderFlag.INT8": (V11, "_set_precision"),
    "Builder.platform_has_fast_fp16": (V11, "_check_fast"),
    "Builder.platform_has_fast_int8": (V11, "_check_fast"),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": (V8, "_network_flags"),
    "BuilderFlag.PREFER_PRECISION_CONSTRAINTS": (V11, "keep_in_half"),
    "ILayer.precision": (V11, "_set_half"),
    "ILayer.set_output_type": (V11, "_set_half"),
    "IBuilderConfig.set_calibration_profile": (V11, "set_calibrator"),
    "IBuilderConfig.int8_calibrator": (V11, "set_calibrator"),
    "IInt8EntropyCalibrator2": (V11, "_base"),
    "IInt8MinMaxCalibrator": (V11, "_base"),
    "IProgressMonitor": (V8, "as_monitor"),
    "IBuilderConfig.progress_monitor": (V8, "configure"),
    "ICudaEngine.device_memory_size": (V11, "_activation_bytes"),
    "ICudaEngine.device_memory_size_v2": (V8, "_activation_bytes"),
}


class Use(NamedTuple):
    """One use of a name: `class.member`, or the name of a class or enumeration."""

    name: str
    file: str
    line: int
    function: str
    is_call: bool = False
    is_set: bool = False
    positional: int = 0
    keywords: Tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"edge/{self.file}:{self.line}: {self.name}"


def is_trt(node: ast.AST) -> bool:
    """`trt` or `self._trt`."""
    return getattr(node, "id", "") == "trt" or getattr(node, "attr", "") == "_trt"


class Finder(ast.NodeVisitor):
    """Finds what a file uses of TensorRT."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.receivers = RECEIVERS[file]
        self.functions: List[str] = [""]
        self.uses: List[Use] = []
        self.calls: Dict[int, ast.Call] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node.name)
        if (self.file, node.name) not in NOT_TENSORRT:
            self.generic_visit(node)
        self.functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self.calls[id(node.func)] = node
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.name_of(node)
        if name is not None and not node.attr.startswith("__"):
            call = self.calls.get(id(node))
            has_star = call is not None and any(isinstance(a, ast.Starred) for a in call.args)
            self.uses.append(
                Use(
                    name,
                    self.file,
                    node.lineno,
                    self.functions[:2][-1],
                    call is not None,
                    isinstance(node.ctx, ast.Store),
                    -1 if has_star else len(call.args) if call else 0,
                    tuple(str(k.arg) for k in call.keywords) if call else (),
                )
            )
        self.generic_visit(node)

    def name_of(self, node: ast.Attribute) -> Any:
        value = node.value
        if is_trt(value):
            return node.attr
        if isinstance(value, ast.Attribute) and is_trt(value.value):
            return f"{value.attr}.{node.attr}"
        held = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
        owner = self.receivers.get(held)
        return None if owner is None else f"{owner}.{node.attr}"


def uses_of(file: str) -> List[Use]:
    finder = Finder(file)
    finder.visit(ast.parse((EDGE / file).read_text("utf-8")))
    return finder.uses


USES = [use for file in RECEIVERS for use in uses_of(file)]


def problem(use: Use, snapshot: Dict[str, Any]) -> str:
    """What a version's binding does not have or take of a use; empty where all is well."""
    owner, _, member = use.name.partition(".")
    if not member:
        known = owner == "__version__" or owner in snapshot["names"]
        return "" if known else "unknown"
    described = snapshot["classes"].get(owner)
    if described is None:
        return "class not in the snapshot"
    if "enum" in described:
        return "" if member in described["enum"] else "unknown"
    if member not in described["members"]:
        return "unknown"
    return wrong_use(use, described["members"][member])


def wrong_use(use: Use, member: Dict[str, Any]) -> str:
    if member["kind"] == "property":
        if use.is_call:
            return "is a property"
        return "cannot be set" if use.is_set and not member["writable"] else ""
    if not use.is_call:
        return "is a method"
    if use.positional < 0:
        return ""
    fits = accepts(member["signatures"], use.positional, list(use.keywords))
    return "" if fits else f"does not take {use.positional} {use.keywords}"


def test_files_are_all_looked_at() -> None:
    naming = {
        path.relative_to(EDGE).as_posix()
        for path in EDGE.rglob("*.py")
        if re.search(r"\btrt\.", path.read_text("utf-8"))
    }
    assert naming <= set(RECEIVERS)


def test_enough_is_found() -> None:
    found = {use.name for use in USES}
    assert len(found) > 60
    assert {
        "IExecutionContext.execute_async_v3",
        "OnnxParser.parse",
        "Builder.build_serialized_network",
        "IBuilderConfig.set_memory_pool_limit",
        "ICudaEngine.get_tensor_profile_shape",
        "ILayer.set_output_type",
    } <= found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_use_fits_the_binding(version: str) -> None:
    wrong = [
        f"{use} {found}"
        for use in USES
        for found in [problem(use, SNAPSHOTS[version])]
        if found and version not in GUARDED.get(use.name, (frozenset(), ""))[0]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", GUARDED)
def test_a_guarded_name_is_missing_where_the_table_says_and_used_in_one_function(name: str) -> None:
    versions, function = GUARDED[name]
    uses = [use for use in USES if use.name == name]
    missing = {v for v in VERSIONS for use in uses if problem(use, SNAPSHOTS[v])}
    assert missing == versions
    assert {use.function for use in uses} == {function}


def test_names_asked_for_by_getattr_exist_somewhere() -> None:
    flags = SNAPSHOTS["8.5.2.2"]["classes"]["NetworkDefinitionCreationFlag"]["enum"]
    assert "EXPLICIT_BATCH" in flags
    from edge.config.schema import TacticSource

    known = SNAPSHOTS["8.5.2.2"]["classes"]["TacticSource"]["enum"]
    assert {source.name for source in TacticSource} == set(known)


def test_numpy_types_are_never_asked_for() -> None:
    # JetPack 5's binding names np.bool in it, which numpy 1.24 has no more.
    assert not [use for use in USES if use.name == "nptype"]


SLIPS = {
    "unknown flag": ("BuilderFlag.FP17", False, False, 0),
    "unknown method": ("Builder.build_plan", True, False, 2),
    "removed method": ("Builder.build_engine", True, False, 2),
    "too many arguments": ("IExecutionContext.execute_async_v3", True, False, 2),
    "too few arguments": ("IExecutionContext.set_tensor_address", True, False, 1),
    "property called": ("ICudaEngine.num_io_tensors", True, False, 0),
    "method not called": ("OnnxParser.parse", False, False, 0),
    "read-only": ("Builder.num_DLA_cores", False, True, 0),
    "unknown name": ("IInt9Calibrator", False, False, 0),
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_is_caught(slip: Tuple[str, bool, bool, int]) -> None:
    name, is_call, is_set, positional = slip
    use = Use(name, "a.py", 1, "f", is_call, is_set, positional)
    assert problem(use, SNAPSHOTS["10.3.0"])


def test_parameters_are_read_from_signatures() -> None:
    text = "f(self: A, shape: Tuple[int, int], flags: typing.SupportsInt = 0) -> List[int]"
    assert parameters(text) == [("shape", False), ("flags", True)]


# --- pycuda and the driver ---------------------------------------------------------------------


def pycuda_names() -> Set[Tuple[str, ...]]:
    """What cuda.py uses of pycuda, as chains of names."""
    tree = ast.parse((EDGE / "inference/cuda.py").read_text("utf-8"))
    return {tuple(chain) for node in ast.walk(tree) for chain in [chain_of(node)] if chain}


def chain_of(node: ast.AST) -> List[str]:
    names: List[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    is_pycuda = names[:1] == ["_pycuda"] or names[:1] == ["pycuda"]
    if is_pycuda or getattr(node, "id", "") == "pycuda":
        return names[1:] if is_pycuda else names
    return []


# What objects of pycuda's are asked for.
PYCUDA_MEMBERS = {
    "Context": ("push", "pop", "detach"),
    "Device": ("name", "compute_capability", "get_attribute", "retain_primary_context"),
}


def test_pycuda_has_every_name() -> None:
    path = Path(take.__file__).parent / "pycuda-2024.1.json"
    snapshot = json.loads(path.read_text("utf-8"))
    chains = pycuda_names()
    assert len(chains) >= 8
    for chain in chains:
        assert chain[0] in snapshot, chain
        assert not chain[1:] or chain[1] in snapshot[chain[0]], chain
    for owner, members in PYCUDA_MEMBERS.items():
        assert set(members) <= set(snapshot[owner]), owner


def driver_calls() -> Iterator[str]:
    """Every function of the driver that is named outside the table of their arguments."""
    for path in sorted((EDGE / "inference").glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        tables = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        left_out = {child for table in tables for child in ast.walk(table)}
        rest = (node for node in ast.walk(tree) if node not in left_out)
        texts = (str(node.value) for node in rest if isinstance(node, ast.Constant))
        yield from (text for text in texts if re.fullmatch(r"cu[A-Z]\w+", text))


def test_every_driver_call_has_its_argument_types() -> None:
    assert set(driver_calls()) == set(FUNCTIONS)


# --- the snapshots themselves ------------------------------------------------------------------

WHEELS = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.16.1.11": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
}


def essence(snapshot: Dict[str, Any]) -> Any:
    """A snapshot less how types are spelled, which differs from one Python to the next."""
    return {
        owner: described.get("enum")
        or {
            name: (
                member["kind"],
                member.get("writable"),
                sorted({tuple(parameters(text)) for text in member.get("signatures", ())}),
            )
            for name, member in described["members"].items()
        }
        for owner, described in snapshot["classes"].items()
    }


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", WHEELS)
def test_the_snapshot_is_what_the_bindings_say(version: str, tmp_path: Path) -> None:
    for tool in ("gcc", "nm", "readelf"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is needed to link the stubs")
    try:
        shared_object = take.download(WHEELS[version], tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip(f"no wheel of {WHEELS[version]} for Python {sys.version_info[:2]} to be had")
    taken = take.snapshot(shared_object, version)
    assert taken["names"] == SNAPSHOTS[version]["names"]
    assert essence(taken) == essence(SNAPSHOTS[version])
    assert tried_subclasses(shared_object, version, tmp_path / "stubs") == "good"


def tried_subclasses(shared_object: Path, version: str, stubs: Path) -> str:
    stubs.mkdir()
    take.write_stubs(shared_object, stubs)
    script = "tests.inference.tensorrt_api.subclasses"
    output = take.output(
        sys.executable, "-m", script, str(shared_object), version, LD_LIBRARY_PATH=str(stubs)
    )
    return output.strip()
