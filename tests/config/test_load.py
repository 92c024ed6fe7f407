from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.config.camera_uri import CameraUri
from edge.config.load import config_schema, load, resolve
from edge.config.schema import Config
from edge.errors import EXIT_CONFIG, ConfigError

MINIMAL = """\
model:
  path: model.onnx
cameras:
  - name: dock
    uri: dock.mp4
"""

FULL = """\
device:
  id: 0421
  state_dir: state
model:
  path: /models/parts.onnx
  class_names: [yes, no, 12e3, "null"]
  input_wh: [640, 480]
  max_candidates: 500
engine: {backend: onnxruntime, threads: 2}
batching:
  target: 4
  max_wait_ms: 12.5
cameras:
  - &dock
    name: dock
    uri: rtsp://user:secret@10.0.0.9/1
    fps: 7.5
    enabled: yes
    loop: off
  - <<: *dock
    name: on
    stall_s: 1_0
mqtt:
  host: broker
  port: "1884"
  client_id: ~
  username: no
  password: 0123
  allow_plaintext_password: yes
"""

Load = Callable[..., Config]
Faults = Callable[..., List[str]]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def load_it(text: str, **environ: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, environ)

    return load_it


@pytest.fixture
def faults(load_text: Load, tmp_path: Path) -> Faults:
    """The lines of the error, without the folder in front."""

    def faults_of(text: str, **environ: str) -> List[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, **environ)
        assert caught.value.exit_code == EXIT_CONFIG
        return str(caught.value).replace(f"{tmp_path}{os.sep}", "").split("\n")

    return faults_of


def test_minimal_file_takes_every_default(load_text: Load, tmp_path: Path) -> None:
    config = load_text(MINIMAL)

    assert config.model.path == tmp_path / "model.onnx"
    assert config.cameras[0].name == "dock"
    assert config.mqtt.port == 1883
    assert config.engine.backend is None


def test_full_file_is_read_by_the_schema_not_by_looks(load_text: Load, tmp_path: Path) -> None:
    config = load_text(FULL)

    assert config.device.id == "0421"
    assert config.device.state_dir == tmp_path / "state"
    assert config.model.path == Path("/models/parts.onnx")
    assert config.model.class_names == ["yes", "no", "12e3", "null"]
    assert config.model.input_wh == (640, 480)
    assert (config.batching.target, config.batching.max_wait_ms) == (4, 12.5)
    assert config.mqtt.port == 1884
    assert config.mqtt.username == "no"
    assert config.mqtt.client_id is None
    assert config.mqtt.password is not None
    assert config.mqtt.password.get_secret_value() == "0123"


def test_merged_maps_give_what_is_not_overridden(load_text: Load) -> None:
    first, second = load_text(FULL).cameras

    assert (first.enabled, first.loop, first.fps) == (True, False, 7.5)
    assert (second.name, second.fps, second.loop, second.stall_s) == ("on", 7.5, False, 10.0)


def test_the_readme_example_of_several_faults_at_once(faults: Faults) -> None:
    text = """\
camras: []
model:
  path: a.onnx
cameras:
  - name: dock
    uri: a.mp4
  - name: gate
    uri: b.mp4
    fps: -3
  - name: dock
    uri: c.mp4
    enabled: maybe
"""
    assert faults(text) == [
        "config.yaml:1:1 camras: unknown key, did you mean 'cameras'?",
        "config.yaml:9:5 cameras[1].fps: must be at least 0.001 (got -3)",
        "config.yaml:10:5 cameras[2].name: 'dock' is the name of cameras[0] in line 5 too: "
        "names must differ",
        "config.yaml:12:5 cameras[2].enabled: must be true or false (got 'maybe')",
    ]


def test_keys_that_contradict_each_other_are_a_fault_with_its_place(faults: Faults) -> None:
    another = "  - {name: b, uri: b.mp4}\n"
    text = f"batching:\n  max_wait_ms: 50\n{MINIMAL}    max_staleness_ms: 40\n{another}"
    (fault,) = faults(text)
    assert fault.startswith("config.yaml:8:5 cameras[0].max_staleness_ms: is 40, ")
    assert "50 ms (batching.max_wait_ms)" in fault


def section(name: str, line: str) -> str:
    return f"{name}:\n  {line}\n{MINIMAL}"


VALUES = {
    "number too small": ("mqtt", "port: 0", "2:3 mqtt.port: must be at least 1 (got 0)"),
    "number too large": ("mqtt", "port: 65536", "2:3 mqtt.port: must be at most 65535 (got 65536)"),
    "not above": ("postprocess", "iou_threshold: 0", "must be greater than 0 (got 0)"),
    "text for a number": ("batching", "max_wait_ms: abc", "must be a number (got 'abc')"),
    "not a number": ("batching", "max_wait_ms: nan", "must be at most 1000 (got nan)"),
    "base 60": ("batching", "max_wait_ms: 1:30", "must be a number (got '1:30')"),
    "fraction": ("batching", "target: 1.5", "must be a whole number (got 1.5)"),
    "hexadecimal": ("batching", "target: 0x10", "must be a whole number (got '0x10')"),
    "endless number": ("batching", "target: " + "9" * 5000, "must be a whole number (got 999"),
    "list for a number": ("batching", "target: [4]", "must be a whole number (got a list)"),
    "map for text": ("mqtt", "host: {a: b}", "2:3 mqtt.host: must be text (got a map of keys)"),
    "no value": ("mqtt", "port:", "2:3 mqtt.port: must be a whole number (got no value)"),
    "empty text": ("mqtt", 'host: ""', "2:3 mqtt.host: must not be empty"),
    "wrong enum": ("engine", "backend: cuda", "must be 'tensorrt' or 'onnxruntime' (got 'cuda')"),
    "bad topic": ("mqtt", "prefix: a//b", "with one '/' between them (got 'a//b')"),
    "bad id": ("device", "id: a b", "must be 1 to 64 characters of A-Z"),
    "empty path": ("device", "state_dir: ''", "2:3 device.state_dir: must not be empty"),
    "list for a path": ("device", "state_dir: [a]", "must be a path (got a list)"),
    "empty list": ("postprocess", "classes: []", "must have at least 1 entries"),
    "text for a list": ("postprocess", "classes: bolt", "must be a list (got 'bolt')"),
    "typo": ("mqtt", "hots: a", "2:3 mqtt.hots: unknown key, did you mean 'host'?"),
    "wrong case": ("mqtt", "Host: a", "unknown key, did you mean 'host'?"),
    "wrong section": ("health", "keepalive_s: 9", "unknown key here, it belongs to 'mqtt'"),
    "unheard of": ("gate", "zzz: 9", "2:3 gate.zzz: unknown key (allowed: max_loss, min_boxes)"),
    "tag": ("mqtt", "host: !!int a", "2:3 mqtt.host: tags are not supported"),
    "NUL": ("mqtt", 'host: "a\\0"', "2:3 mqtt.host: contains a NUL or bytes"),
    "lone surrogate": ("mqtt", 'host: "\\ud800"', "2:3 mqtt.host: contains a NUL or bytes"),
    "terminal escape": ("device", 'id: "\\e[31m"', "(got '\\x1b[31m')"),
    "given twice": ("mqtt", "port: 1\n  port: 2", "3:3 mqtt.port: is given twice, first in line 2"),
    "complex key": ("mqtt", "[a]: b", "2:3 mqtt: a key must be plain text"),
    "merged text": ("mqtt", "<<: a", "1:1 mqtt: only maps can be merged with '<<'"),
    "malformed reference": ("mqtt", "host: ${1A}", "2:3 mqtt.host: ${ begins a reference"),
}


@pytest.mark.parametrize(("name", "line", "expected"), VALUES.values(), ids=VALUES)
def test_one_wrong_value_gives_one_line(
    faults: Faults, name: str, line: str, expected: str
) -> None:
    (fault,) = faults(section(name, line))
    assert expected in fault
    assert re.match(r"config\.yaml:\d+:\d+ ", fault)


SHAPES = {
    "empty": ("", "config.yaml: is empty: `model` and `cameras` are required"),
    "only a comment": ("# nothing\n", "config.yaml: is empty: `model` and `cameras` are required"),
    "only a marker": ("---\n", "config.yaml: is empty: `model` and `cameras` are required"),
    "text": ("hello", "config.yaml:1:1: must be a map of keys such as `model:` (got text)"),
    "list": ("\n- a", "config.yaml:2:1: must be a map of keys such as `model:` (got a list)"),
    "tagged top": ("!!set {}", "config.yaml:1:1: tags are not supported: quote a value with '!'"),
    "tab": ("model:\n\tpath: a", "config.yaml:2:1: a tab cannot indent: use spaces"),
    "no space": ("a:\n  b: 1\n  c:2\n", "config.yaml:4:1: the line before is not `key: value`: "
                 "is there a space after the colon?"),
    "two colons": ("a: b: c", "config.yaml:1:5: ':' is not expected here: check the indentation "
                   "above, or quote a value that contains ': '"),
    "at sign": ("a: @b", "config.yaml:1:4: a value that begins with this character must be quoted"),
    "open quote": ("a: 'b\n\n", "config.yaml:1:4: the quote that begins here never ends"),
    "open list": ("a: [b\n\n", "config.yaml:1:4: the list that begins here is not closed by ']'"),
    "open map": ("a: {b\n\n", "config.yaml:1:4: the map that begins here is not closed by '}'"),
    "dedent": ("a:\n  - b\n c: d\n", "config.yaml:3:2: does not fit the lines above: check the "
               "indentation and quotes"),
    "unknown alias": ("a: *secret", "config.yaml:1:4: a value that begins with '*' must be quoted"),
    "bare anchor": ("a: &", "config.yaml:1:5: a value that begins with '*' or '&' must be quoted"),
    "unknown tag": ("a: !secret!b c", "config.yaml:1:4: a value that begins with '!' must be "
                    "quoted"),
    "anchor twice": ("a: &x 1\nb: &x 2", "config.yaml:2:4: this anchor (&) is defined twice"),
    "unknown escape": ('a: "\\q"', "config.yaml:1:6: unknown escape after '\\': use single quotes"),
    "escape out of range": ('a: "\\UFFFFFFFF"', "config.yaml: an escape or version number is out "
                            "of range"),
    "two documents": ("a: 1\n---\nb: 2", "config.yaml:2:1: a second document begins here: a "
                      "configuration has one"),
    "after the end": ("a: 1\n...\nb: 2", "config.yaml:3:1: nothing may follow the configuration"),
    "other YAML": ("%YAML 2.0\n---\na: 1", "config.yaml:1:1: only YAML 1.x can be read"),
    "control character": ("a: b\nc: \x07", "config.yaml:2:4: the character U+0007 cannot be in "
                          "YAML"),
    "too deep": ("[" * 5000, "config.yaml:1:21: nested deeper than 20 levels"),
    "alias in itself": ("a: &x [*x]", "config.yaml:1:4: nested deeper than 20 levels: does an "
                        "alias (*) contain itself?"),
    "merge of itself": ("a: &x\n  <<: *x", "config.yaml:1:4: nested deeper than 20 levels: does "
                        "an alias (*) contain itself?"),
    "other problem": ("a: |x\n b", "config.yaml:1:5: this is not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SHAPES.values(), ids=SHAPES)
def test_what_is_no_configuration_gives_one_line(faults: Faults, text: str, expected: str) -> None:
    assert faults(text) == [expected]


def test_aliases_that_multiply_are_refused(faults: Faults) -> None:
    levels = [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (fault,) = faults("\n".join(["- &a0 [x]", *levels]))
    assert "more than 20000 values: do aliases (*) multiply?" in fault


def test_merges_that_multiply_are_refused(faults: Faults) -> None:
    keys = "\n".join(f"  k{i}: v" for i in range(1000))
    (fault,) = faults(f"a: &a\n{keys}\nb:\n  <<: [{', '.join(['*a'] * 1000)}]\n")
    assert "more than 20000 values: do aliases (*) multiply?" in fault


MISSING = {
    "both sections": ("device: {id: a}", ["1:1 model: is required", "1:1 cameras: is required"]),
    "key of a section": (
        "cameras: [{name: a, uri: b}]\nmodel: {}",
        ["2:1 model.path: is required"],
    ),
    "key of a camera": ("model: {path: a}\ncameras:\n  - name: a", ["3:5 cameras[0].uri: is req"]),
    "value of a section": ("model:\ncameras: [{name: a, uri: b}]", ["1:1 model: is empty: give"]),
    "camera": ("model: {path: a}\ncameras:\n  -", ["3:4 cameras[0]: is empty: give it keys"]),
    "all cameras": ("model: {path: a}\ncameras: []", ["2:1 cameras: must have at least 1"]),
    "second of a pair": (
        "model: {path: a, input_wh: [1]}\ncameras: [{name: a, uri: b}]",
        ["1:18 model.input_wh[1]: is required"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISSING.values(), ids=MISSING)
def test_missing_keys_point_at_what_lacks_them(
    faults: Faults, text: str, expected: List[str]
) -> None:
    found = faults(text)
    assert len(found) == len(expected)
    for fault, start in zip(found, expected):
        assert fault.startswith(f"config.yaml:{start}")


def test_a_wild_file_does_not_flood_the_terminal(faults: Faults) -> None:
    found = faults("".join(f"zz{i}: 1\n" for i in range(300)))
    assert len(found) == 51
    assert found[-1] == "config.yaml: and 252 more"


def test_a_uri_that_names_nothing_is_placed_and_keeps_its_secret(load_text: Load) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml:\d+:\d+ cameras\[0\].uri: ") as caught:
        load_text(MINIMAL.replace("dock.mp4", "rtsp://user:se#cret@host/s"))
    assert "cret" not in str(caught.value)


def test_references_are_filled_in_from_the_environment(load_text: Load) -> None:
    text = MINIMAL.replace("dock.mp4", "rtsp://${WHO:-admin}:${PW}@cam") + (
        "mqtt:\n  port: ${PORT}\n  password: 'a$$b$c'\n  empty_frames: ${EMPTY:-yes}\n"
        "  username: u\n  client_id: ${UNSET:-}\n  host: '${UNSET:-localhost}'\n"
    )
    config = load_text(text, PORT="1999", PW="p@ss", UNSET="")

    assert config.cameras[0].uri == CameraUri("rtsp://admin:p@ss@cam")
    assert config.mqtt.port == 1999
    assert config.mqtt.empty_frames is True
    assert config.mqtt.client_id is None
    assert config.mqtt.host == "localhost"
    assert config.mqtt.password is not None
    assert config.mqtt.password.get_secret_value() == "a$b$c"


def test_missing_variables_are_named_at_their_places(faults: Faults) -> None:
    assert faults(MINIMAL + "mqtt:\n  host: ${HOST_A}\n  port: ${PORT_B}\n") == [
        "config.yaml:7:3 mqtt.host: environment variable HOST_A is not set: set it, "
        "or write ${HOST_A:-default}",
        "config.yaml:8:3 mqtt.port: environment variable PORT_B is not set: set it, "
        "or write ${PORT_B:-default}",
    ]


SECRET_TEXTS = {
    "in a number": MINIMAL + "mqtt: {port: '${PW}'}",
    "in a name": MINIMAL.replace("name: dock", "name: ${PW}"),
    "in two names": (MINIMAL + MINIMAL[MINIMAL.index("  - ") :]).replace(
        "name: dock", "name: ${LOW}"
    ),
    "in a list": MINIMAL + "mqtt: {password: [HUNTER2]}",
    "in a uri list": MINIMAL.replace("dock.mp4", "[HUNTER2]"),
    "under a typo": MINIMAL + "mqtt: {pasword: HUNTER2}",
    "as an alias": MINIMAL + "mqtt:\n  password: *HUNTER2",
    "as a tag": MINIMAL + "mqtt:\n  password: !HUNTER2!x y",
    "as a plain tag": MINIMAL + "mqtt:\n  password: !HUNTER2",
    "in a broken quote": MINIMAL + "mqtt:\n  password: 'HUNTER2' b",
    "not unicode": MINIMAL + "mqtt:\n  password: ${BYTES}",
}


@pytest.mark.parametrize("text", SECRET_TEXTS.values(), ids=SECRET_TEXTS)
def test_secrets_are_never_told(faults: Faults, text: str) -> None:
    found = faults(text, PW="HUNTER2", LOW="hunter2", BYTES="HUNTER2\udcff")
    assert "hunter2" not in "\n".join(found).lower()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").write_bytes(b"#" * (256 * 1024 + 1))
    expected = {
        tmp_path: "is a folder, not a YAML file",
        tmp_path / "absent.yaml": "cannot be read: No such file or directory",
        tmp_path / "huge.yaml": "larger than 256 KiB: not a config",
        Path("a\0b"): "cannot be read: embedded null byte",
    }
    for path, reason in expected.items():
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert str(caught.value) == f"{path}: {reason}".replace("\0", "\\x00")


ENCODINGS = {
    "first byte": (b"\xff\xfea\0", "1:1"),
    "second line": (b"model:\n  path: caf\xe9.onnx\n", "2:12"),
    "cut off": ("model: é".encode()[:-1], "1:8"),
}


@pytest.mark.parametrize(("data", "place"), ENCODINGS.values(), ids=ENCODINGS)
def test_text_that_is_not_utf_8(tmp_path: Path, data: bytes, place: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}:{place}: this is not UTF-8 text: save the file as UTF-8"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL)
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load(path, {})


def test_byte_order_mark_and_largest_file_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = MINIMAL.encode("utf-8-sig")
    path.write_bytes(text + b"#" * (256 * 1024 - len(text)))
    assert load(path, {}).cameras[0].name == "dock"


def test_a_relative_file_name_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load(Path("config.yaml"), {}).model.path == tmp_path / "model.onnx"


def test_resolve() -> None:
    assert resolve(Path("a/b"), Path("/base")) == Path("/base/a/b")
    assert resolve(Path("/a"), Path("/base")) == Path("/a")


# --- the JSON Schema ---------------------------------------------------------------------------


def test_schema_is_valid_and_describes_every_key() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    for name, part in schema["$defs"].items():
        assert part["description"], name
        for key, field in part.get("properties", {}).items():
            assert "$ref" in field or field["description"], f"{name}.{key}"


SCHEMA_CASES: Dict[str, Tuple[str, bool]] = {
    "minimal": (MINIMAL, True),
    "reference for a number": (MINIMAL + "mqtt: {port: '${PORT}'}", True),
    "reference for an optional number": (MINIMAL + "engine: {threads: '${N}'}", True),
    "reference for a truth value": (MINIMAL + "mqtt: {empty_frames: '${E:-true}'}", True),
    "number": (MINIMAL + "mqtt: {port: 1884}", True),
    "text for a number": (MINIMAL + "mqtt: {port: abc}", False),
    "number too large": (MINIMAL + "mqtt: {port: 65536}", False),
    "unknown key": (MINIMAL + "mqtt: {hots: a}", False),
    "missing section": ("model: {path: a}", False),
}


@pytest.mark.parametrize(("text", "is_valid"), SCHEMA_CASES.values(), ids=SCHEMA_CASES)
def test_schema_accepts_what_the_loader_accepts(text: str, is_valid: bool) -> None:
    validator = jsonschema.Draft202012Validator(config_schema())
    assert validator.is_valid(yaml.safe_load(text)) is is_valid


# --- anything at all ---------------------------------------------------------------------------

ALPHABET = st.characters() | st.sampled_from(list("\t\n :-#&*!|>'\"%@`{}[]<,?${}~0a"))
PIECES = ("\t", "  ", "- ", ": ", "&a ", "*a", "<<: *a", "!x ", "{", "}", "[", "]", "'", '"', "|",
          ">", "${A}", "${", "$$", "\n", "---\n", "...\n", "\0", "\\", "#", "~", "-1", "1e999", "?",
          "é", "\ufeff", "\u2028", "%YAML 1.1\n", "name", "cameras:")  # fmt: skip


def is_config_or_config_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        load(path, {"A": "a"})
    except ConfigError as error:
        lines = str(error).split("\n")
        assert all(line.startswith(f"{path}") for line in lines)
        assert all(line.isprintable() for line in lines)


fuzz = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    is_config_or_config_error(tmp_path / "c.yaml", data)


@fuzz
@given(st.text(ALPHABET, max_size=200))
@example("%YAML 1." + "9" * 5000 + "\n---\n")
@example('? "\\ud800"\n: 1')
def test_any_text(tmp_path: Path, text: str) -> None:
    is_config_or_config_error(tmp_path / "c.yaml", text.encode("utf-8", "surrogatepass"))


@fuzz
@given(st.data())
def test_any_mutation_of_a_real_file(tmp_path: Path, data: st.DataObject) -> None:
    text = FULL
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.sampled_from(PIECES) | st.just("")) + text[end:]
    is_config_or_config_error(tmp_path / "c.yaml", text.encode())
