"""What the container image is made of, as far as it can be said without building it."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Dict, List, NamedTuple

import pytest

from edge.cli import parser

ROOT = Path(__file__).resolve().parents[2]
SETS = sorted((ROOT / "requirements").glob("jetpack*.txt"))

# JetPack's own: pip's would hide them.
NEVER_BY_PIP = re.compile(r"tensorrt|opencv|nvinfer", re.IGNORECASE)


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, with its continued lines."""

    name: str
    text: str


def instructions() -> List[Instruction]:
    lines = (ROOT / "Dockerfile.l4t").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [Instruction(*line.split(None, 1)) for line in joined if line.strip()]


def of(name: str) -> List[str]:
    return [instruction.text for instruction in instructions() if instruction.name == name]


def versions(file: Path) -> Dict[str, str]:
    """The pins of a requirements file, by normalized name."""
    found = {}
    for line in file.read_text().splitlines():
        requirement = line.split("#")[0].strip()
        if requirement:
            name, version = requirement.split("==")
            found[normalized(name)] = version.strip()
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project_list(key: str) -> List[str]:
    """The requirements of a list in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(rf"^{key} = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return re.findall(r'^\s*"([^"]+)"', block.group(1), re.MULTILINE)


def is_sent_to_the_builder(path: str) -> bool:
    """Whether .dockerignore lets it through; the last line that fits decides."""
    is_ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!").rstrip("/")
        if line and not line.startswith("#") and fits(path, pattern):
            is_ignored = not line.startswith("!")
    return not is_ignored


def fits(path: str, pattern: str) -> bool:
    parts = path.split("/")
    return any(
        fnmatch.fnmatch("/".join(parts[:count]), pattern) for count in range(1, len(parts) + 1)
    )


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    sources = [
        source for text in of("COPY") if "--from" not in text for source in text.split()[:-1]
    ]
    assert set(sources) >= {"edge/", "pyproject.toml", "requirements/"}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent_to_the_builder(source.rstrip("/")), source


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("edge/cli.py", True, id="the program"),
        pytest.param("edge/demo/assets/parts.onnx", True, id="its model"),
        pytest.param("edge/demo/training/train.py", False, id="training"),
        pytest.param("calibration/calibration_001.jpg", False, id="images"),
        pytest.param(".git/config", False, id="history"),
    ],
)
def test_the_builder_gets_what_is_installed(path: str, expected: bool) -> None:
    assert is_sent_to_the_builder(path) is expected


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.stem)
def test_tensorrt_and_opencv_are_jetpacks(file: Path) -> None:
    assert not [name for name in versions(file) if NEVER_BY_PIP.search(name)]


def test_pip_installs_nothing_else() -> None:
    installs = [
        command
        for run in of("RUN")
        for command in re.split(r"&&|;", run)
        if "pip install" in command
    ]
    assert len(installs) == 4
    allowed = re.compile(
        r"pip==|--requirement \"requirements/jetpack\$\{JETPACK\}\.txt\"|jetson-stats==|--no-deps"
    )
    for install in installs:
        assert allowed.search(install), install
        assert not NEVER_BY_PIP.search(install), install


@pytest.mark.parametrize("package", ["python3-libnvinfer", "libopencv-python"])
def test_both_come_from_jetpacks_packages(package: str) -> None:
    (install,) = [text for text in of("RUN") if "apt-get install" in text and "gstreamer" in text]
    assert package in install.split()


@pytest.mark.parametrize("file", SETS, ids=lambda file: file.stem)
def test_every_dependency_is_pinned(file: Path) -> None:
    pins = versions(file)
    for requirement in [*project_list("dependencies"), "pycuda"]:
        name = re.split(r"[<>=!;\[ ]", requirement)[0]
        assert normalized(name) in pins, f"{name} is not in {file.name}"


def test_the_sets_are_what_is_tested() -> None:
    assert [file.stem for file in SETS] == ["jetpack5", "jetpack6"]
    tested = versions(ROOT / ".ci/jetpack5.txt")
    installed = versions(SETS[0])
    shared = tested.keys() & installed.keys()
    assert len(shared) >= 4
    assert {name: tested[name] for name in shared} == {name: installed[name] for name in shared}


def test_pycuda_is_the_one_that_runs_on_python_3_8() -> None:
    assert f"pycuda=={versions(SETS[0])['pycuda']}" in project_list("jetson")


def test_it_does_not_run_as_root() -> None:
    (user,) = of("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_its_commands_are_those_of_the_program() -> None:
    (entry,) = of("ENTRYPOINT")
    (command,) = of("CMD")
    (check,) = of("HEALTHCHECK")
    assert entry == '["/opt/edge/bin/edge"]'
    assert parser().parse_args(words(command)).command == "run"
    health = parser().parse_args(words(check)[1:])
    assert health.command == "alive"
    assert f"EDGE_ALIVE_FILE={health.file}" in " ".join(of("ENV"))


def words(text: str) -> List[str]:
    """The words of an instruction's JSON form."""
    return re.findall(r'"([^"]+)"', text)
