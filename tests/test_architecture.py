"""The rules of the house, checked on the source itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "edge"

FOUNDATION = frozenset(
    {
        *("errors", "records", "geometry", "clock", "threads", "backoff", "atomic_file"),
        *("config", "cgroup"),
    }
)
# `line`, with `roster`, `station`, `seating` and `slots`, is the part of `app` that wires the hot
# path. `check`, `bench`, `calibrate`, `cameras` and `doctor` are commands, which look into rooms
# without starting the daemon.
COMPOSERS = frozenset(
    {
        *(
            "app",
            "line",
            "bounds",
            "upkeep",
            "roster",
            "station",
            "seating",
            "slots",
            "engines",
            "cli",
            "__main__",
        ),
        *("reporting", "control", "running", "errands", "condition", "liveness", "installing"),
        *("check", "build", "bench", "calibrate", "cameras", "doctor"),
    }
)
# It judges what it builds by what an engine detects with it.
ALSO_ALLOWED = {"building": frozenset({"inference", "postprocess"})}

# Who may import a third-party library: files and folders, relative to the package.
OWNERS = {
    "paho": ("publish/mqtt.py",),
    "psutil": ("health/host.py",),
    "pynvml": ("health/probes/nvml.py",),
    "prometheus_client": ("health/exposition.py",),
    "ddsketch": ("health/latency.py",),
    "onnxruntime": ("inference/onnxruntime.py", "building/", "demo/training/"),
    "onnx": ("building/", "demo/training/"),
    "tensorrt": ("inference/tensorrt.py",),
    "pycuda": ("inference/cuda.py",),
    "torch": ("demo/training/",),
    "yaml": ("config/document.py",),
    "ultralytics": (),
    "jtop": ("health/probes/jtop_client.py",),
}
# The launcher is a process of its own, on hosts without this package.
ENVIRONMENT_READERS = ("config/load.py", "cli.py", "installing/launch_container.py")
PRINTERS = ("cli.py", "demo/")
BROAD_CATCHERS = ("threads.py", "cli.py")

FORBIDDEN_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "manager", "misc"})
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
P95_FUNCTION_LINES = 40
# Built by pieces, so that this file does not hold what it forbids.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")


class Source(NamedTuple):
    """One file; `path` is relative to the package, with slashes."""

    path: str
    text: str

    @property
    def room(self) -> str:
        return self.path.split("/")[0].replace(".py", "")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    def is_under(self, places: Tuple[str, ...]) -> bool:
        return any(
            self.path == place or (place.endswith("/") and self.path.startswith(place))
            for place in places
        )


Violations = Iterator[str]
Rule = Callable[[Source], Violations]


def said(source: Source, line: int, rule: str) -> str:
    return f"edge/{source.path}:{line}: {rule}"


def imports(source: Source) -> Iterator[Tuple[int, str]]:
    """Every module that is imported, wherever the statement stands: line and dotted name."""
    package = ["edge", *source.path.split("/")[:-1]]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from edge import publish` names a room in the alias.
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            names = imported_by_name(node)
        for name in names:
            yield node.lineno, name  # type: ignore[attr-defined]  # all of these have one


def imported_by_name(node: ast.AST) -> List[str]:
    """What may be missing on a machine is imported by its name, when it is needed."""
    if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module"):
        return []
    constants = [argument for argument in node.args if isinstance(argument, ast.Constant)]
    return [constant.value for constant in constants if isinstance(constant.value, str)]


def house_rule(source: Source) -> Violations:
    for line, module in imports(source):
        parts = module.split(".")
        if parts[0] != "edge" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        room, other = source.room, parts[1]
        allowed = FOUNDATION | {room} | ALSO_ALLOWED.get(room, frozenset())
        if room in FOUNDATION:
            allowed = FOUNDATION
        if room not in COMPOSERS and other not in allowed:
            yield said(source, line, f"{room} may not import edge.{other}: rooms share records")


def third_parties(source: Source) -> Violations:
    for line, module in imports(source):
        library = module.split(".")[0]
        if library in OWNERS and not source.is_under(OWNERS[library]):
            owners = ", ".join(OWNERS[library]) or "nobody"
            yield said(source, line, f"only {owners} may import {library}")


def attributes_and_os_names(source: Source) -> Iterator[Tuple[int, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                yield node.lineno, alias.name


def environment(source: Source) -> Violations:
    if source.is_under(ENVIRONMENT_READERS):
        return
    for line, name in attributes_and_os_names(source):
        if name in {"environ", "environb", "getenv"}:
            yield said(source, line, "only config/load.py and cli.py read the environment")


def no_print(source: Source) -> Violations:
    if source.is_under(PRINTERS):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield said(source, node.lineno, "print belongs to the command line: log instead")


def finished(source: Source) -> Violations:
    for number, line in enumerate(source.text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield said(source, number, "unfinished work belongs to an issue, not into the code")


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {getattr(kind, "id", getattr(kind, "attr", "")) for kind in caught}
    return bool(names & {"Exception", "BaseException"})


def no_broad_except(source: Source) -> Violations:
    if source.is_under(BROAD_CATCHERS):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node):
            yield said(source, node.lineno, "a broad except belongs to a thread's top only")


def telling_names(source: Source) -> Violations:
    for part in source.path.replace(".py", "").split("/"):
        if FORBIDDEN_NAMES & set(part.split("_")):
            yield said(source, 1, f"'{part}' does not say what the module knows")


def target_syntax(source: Source) -> Violations:
    try:
        ast.parse(source.text, source.path, feature_version=(3, 8))
    except SyntaxError as error:
        yield said(source, error.lineno or 1, f"not Python 3.8: {error.msg}")


def function_lines(source: Source) -> Iterator[Tuple[int, str, int]]:
    """Where each function is, its name, and its lines without the docstring."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            is_docstring = ast.get_docstring(node) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
            yield node.lineno, node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def sizes(source: Source) -> Violations:
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        yield said(source, 1, f"{lines} lines, at most {MAX_FILE_LINES}")
    for line, name, length in function_lines(source):
        if length > MAX_FUNCTION_LINES:
            yield said(source, line, f"{name} has {length} lines, at most {MAX_FUNCTION_LINES}")


def cycle(edges: Dict[str, FrozenSet[str]]) -> Optional[List[str]]:
    """One way round in the graph, if there is any."""
    done: Dict[str, None] = {}
    way: List[str] = []

    def visit(node: str) -> Optional[List[str]]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            way.append(node)
            for other in sorted(edges.get(node, ())):
                found = visit(other)
                if found:
                    return found
            done[way.pop()] = None
        return None

    return next((found for found in map(visit, sorted(edges)) if found), None)


def module_name(source: Source) -> str:
    return ".".join(["edge", *source.path[: -len(".py")].split("/")]).replace(".__init__", "")


def import_graph(sources: List[Source]) -> Dict[str, FrozenSet[str]]:
    modules = {module_name(source) for source in sources}
    graph = {}
    for source in sources:
        wanted = {name for _, name in imports(source)}
        # `from edge.errors import EdgeError` needs edge.errors.
        wanted |= {name.rpartition(".")[0] for name in wanted}
        graph[module_name(source)] = frozenset(wanted & modules) - {module_name(source), "edge"}
    return graph


RULES: Dict[str, Rule] = {
    rule.__name__: rule
    for rule in (house_rule, third_parties, environment, no_print, finished, no_broad_except,
                 telling_names, target_syntax, sizes)
}  # fmt: skip


def package_sources() -> List[Source]:
    return [
        Source(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rule(rule: Rule) -> None:
    sources = package_sources()
    assert len(sources) > 10
    violations = [violation for source in sources for violation in rule(source)]
    assert not violations, "\n" + "\n".join(violations)


def test_no_import_cycles() -> None:
    found = cycle(import_graph(package_sources()))
    assert found is None, " -> ".join(found or ())


def test_functions_are_short() -> None:
    lengths = sorted(
        (length, said(source, line, name))
        for source in package_sources()
        for line, name, length in function_lines(source)
    )
    at_95, name_at_95 = lengths[len(lengths) * 95 // 100]
    assert at_95 <= P95_FUNCTION_LINES, f"{name_at_95} has {at_95} lines at p95"


# --- the rules catch what they should ----------------------------------------------------------

LONG = "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES
PLANTED = {
    "room imports a room": (house_rule, "capture/a.py", "import edge.publish.mqtt"),
    "room imports from a room": (house_rule, "capture/a.py", "from edge.publish import mqtt"),
    "room from the package": (house_rule, "capture/a.py", "from edge import publish"),
    "relative": (house_rule, "capture/a.py", "from ..publish import mqtt"),
    "inside a function": (house_rule, "capture/a.py", "def f():\n    import edge.health.host"),
    "room imports the app": (house_rule, "health/a.py", "from edge.app import App"),
    "foundation imports a room": (house_rule, "records.py", "from edge.capture import uri"),
    "config imports a room": (house_rule, "config/load.py", "import edge.capture.video"),
    "inference imports building": (house_rule, "inference/a.py", "import edge.building.graph"),
    "paho elsewhere": (third_parties, "publish/a.py", "from paho.mqtt import client"),
    "psutil elsewhere": (third_parties, "health/report.py", "import psutil"),
    "onnx at run time": (third_parties, "inference/onnxruntime.py", "import onnx"),
    "torch in the demo": (third_parties, "demo/show.py", "import torch.nn as nn"),
    "yaml elsewhere": (third_parties, "config/load.py", "import yaml"),
    "copyleft": (third_parties, "demo/training/a.py", "from ultralytics import YOLO"),
    "environ": (environment, "app.py", "import os\nos.environ['A']"),
    "getenv": (environment, "capture/a.py", "import os\nos.getenv('A')"),
    "environ by name": (environment, "capture/a.py", "from os import environ"),
    "print": (no_print, "app.py", "print('hello')"),
    "unfinished": (finished, "app.py", "pass  # TO" + "DO later"),
    "bare except": (no_broad_except, "app.py", "try:\n    pass\nexcept:\n    pass"),
    "except Exception": (no_broad_except, "a.py", "try:\n    1\nexcept Exception:\n    2"),
    "broad among others": (
        no_broad_except, "a.py", "try:\n    1\nexcept (OSError, Exception):\n    2",
    ),
    "utils": (telling_names, "capture/utils.py", ""),
    "manager room": (telling_names, "manager/__init__.py", ""),
    "name of two words": (telling_names, "capture/camera_manager.py", ""),
    "match": (target_syntax, "app.py", "match a:\n    case 1:\n        pass"),
    "except star": (target_syntax, "app.py", "try:\n    1\nexcept* OSError:\n    2"),
    "long function": (sizes, "app.py", LONG),
    "long file": (sizes, "app.py", "a = 1\n" * (MAX_FILE_LINES + 1)),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_caught(rule: Rule, path: str, text: str) -> None:
    (violation,) = rule(Source(path, text))
    assert re.match(rf"edge/{path}:[1-9]\d*: .+", violation)


LAWFUL = {
    "room imports itself": (house_rule, "capture/a.py", "from edge.capture import uri"),
    "room imports the foundation": (
        house_rule, "capture/a.py", "from edge.config.schema import Config\nimport edge.clock",
    ),
    "relative in the room": (house_rule, "capture/a.py", "from . import uri"),
    "version": (house_rule, "publish/a.py", "from edge import __version__"),
    "app imports rooms": (house_rule, "app.py", "import edge.capture.video, edge.publish.mqtt"),
    "building imports inference": (house_rule, "building/a.py", "import edge.inference.engine"),
    "other library": (third_parties, "capture/a.py", "import cv2"),
    "similar name": (third_parties, "capture/a.py", "import onnx_like"),
    "owner": (third_parties, "building/graph.py", "import onnx"),
    "environment given": (environment, "config/document.py", "environ['A']"),
    "narrow except": (no_broad_except, "a.py", "try:\n    1\nexcept (OSError, KeyError):\n    2"),
    "thread's top": (no_broad_except, "threads.py", "try:\n    1\nexcept BaseException:\n    2"),
    "print of the cli": (no_print, "cli.py", "print('hello')"),
    "longest function": (sizes, "app.py", LONG.replace("    pass\n", "", 1)),
    "docstring does not count": (sizes, "app.py", LONG.replace("pass", '"""A.\n\n    B."""', 1)
                                 .replace("    pass\n", "", 1)),
    "longest file": (sizes, "app.py", "a = 1\n" * MAX_FILE_LINES),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), LAWFUL.values(), ids=LAWFUL)
def test_what_is_lawful_is_left_alone(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_a_planted_cycle_is_found() -> None:
    sources = [
        Source("capture/a.py", "from edge.capture import b"),
        Source("capture/b.py", "def f():\n    from edge.capture.c import g"),
        Source("capture/c.py", "import edge.capture.a"),
        Source("errors.py", ""),
    ]
    assert cycle(import_graph(sources)) == [
        "edge.capture.a", "edge.capture.b", "edge.capture.c", "edge.capture.a",
    ]  # fmt: skip
    assert cycle(import_graph(sources[:2])) is None
