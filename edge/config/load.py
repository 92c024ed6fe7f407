"""From the YAML file to the configuration: every fault at once, each with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from pydantic import ValidationError

from edge.config.combinations import contradictions
from edge.config.document import Document, Value, parse
from edge.config.faults import Fault, Key, Place, config_error, quoted
from edge.config.mqtt_files import file_keys, with_files
from edge.config.schema import Config
from edge.config.words import reason_for

_MAX_BYTES = 256 * 1024

_PATHS: Tuple[Key, ...] = (
    ("model", "path"),
    ("device", "state_dir"),
    ("calibration", "folder"),
    *(("mqtt", *key) for key in file_keys()),
)


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Reads and checks the file; relative paths in it count from the file's own folder.

    Raises ConfigError with one line per fault: file:line:column key: reason.
    """
    file = str(path)
    document = parse(_read(path), environ)
    if not isinstance(document.value, dict):
        raise config_error(file, document.faults or [_no_map(document)])
    config, faults = _validate(document)
    faults += document.faults
    faults += _repeated_names(document)
    faults += _empty_paths(document)
    faults += _contradictions(document, config)
    if config is not None:
        mqtt, troubles = with_files(config.mqtt, path.parent.absolute())
        faults += [_unreadable(document, *trouble) for trouble in troubles]
        config = config.model_copy(update={"mqtt": mqtt})
    if config is None or faults:
        raise config_error(file, faults)
    return _with_absolute_paths(config, path.parent.absolute())


def resolve(path: Path, base_dir: Path) -> Path:
    """Makes a path from the file absolute; `base_dir` is the absolute folder of the file."""
    return base_dir / path


def config_schema() -> Dict[str, Any]:
    """The file's JSON Schema (draft 2020-12), for editors that complete and check YAML."""
    schema = Config.model_json_schema()
    schema.update(title="edge configuration", description="The configuration file of edge.")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_with_references(schema),
    }


def _read(path: Path) -> str:
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise config_error(file, [Fault("is a folder, not a YAML file")]) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise config_error(file, [Fault(f"cannot be read: {why}")]) from error
    if len(data) > _MAX_BYTES:
        raise config_error(file, [Fault(f"larger than {_MAX_BYTES // 1024} KiB: not a config")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = Place(line, error.start - data.rfind(b"\n", 0, error.start))
        fault = Fault("this is not UTF-8 text: save the file as UTF-8", place)
        raise config_error(file, [fault]) from error


def _no_map(document: Document) -> Fault:
    if document.value is None:
        return Fault("is empty: `model` and `cameras` are required")
    kind = "a list" if isinstance(document.value, list) else "text"
    return Fault(f"must be a map of keys such as `model:` (got {kind})", document.place_of(()))


def _validate(document: Document) -> Tuple[Optional[Config], List[Fault]]:
    try:
        return Config.model_validate(document.value), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        faults = (_fault(document, detail) for detail in details)
        return None, [fault for fault in faults if not _is_broken(document, fault.key)]


def _fault(document: Document, detail: Mapping[str, Any]) -> Fault:
    key: Key = detail["loc"]
    reason = reason_for(detail, _value_at(document.value, key), key in document.hidden)
    is_missing = detail["type"] == "missing"
    return Fault(reason, document.place_of(key[:-1] if is_missing else key), key)


def _is_broken(document: Document, key: Key) -> bool:
    return any(key[:end] in document.broken for end in range(len(key) + 1))


def _value_at(value: Value, key: Key) -> Value:
    for part in key:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _repeated_names(document: Document) -> Iterator[Fault]:
    first: Dict[str, Key] = {}
    cameras = _value_at(document.value, ("cameras",))
    for i in range(len(cameras) if isinstance(cameras, list) else 0):
        key: Key = ("cameras", i, "name")
        name = _value_at(document.value, key)
        if isinstance(name, str) and first.setdefault(name, key) != key:
            earlier = document.place_of(first[name])
            where = f" in line {earlier.line}" if earlier else ""
            shown = "" if key in document.hidden else f"{quoted(name)} "
            reason = (
                f"{shown}is the name of cameras[{first[name][1]}]{where} too: names must differ"
            )
            yield Fault(reason, document.place_of(key), key)


def _empty_paths(document: Document) -> List[Fault]:
    # As a path, nothing would mean the file's own folder.
    return [
        Fault("must not be empty", document.place_of(key), key)
        for key in _PATHS
        if _value_at(document.value, key) == ""
    ]


def _contradictions(document: Document, config: Optional[Config]) -> List[Fault]:
    found = () if config is None else contradictions(config)
    return [Fault(reason, document.place_of(key), key) for key, reason in found]


def _unreadable(document: Document, key: Key, reason: str) -> Fault:
    key = ("mqtt", *key)
    # A path from the environment is not shown: it may be the secret itself, put there by mistake.
    given = None if key in document.hidden else _value_at(document.value, key)
    shown = f"{quoted(given)} " if isinstance(given, str) else ""
    return Fault(f"{shown}{reason}", document.place_of(key), key)


def _with_absolute_paths(config: Config, base_dir: Path) -> Config:
    model = config.model.model_copy(update={"path": resolve(config.model.path, base_dir)})
    state_dir = resolve(config.device.state_dir, base_dir)
    device = config.device.model_copy(update={"state_dir": state_dir})
    calibration = config.calibration
    if calibration.folder is not None:
        folder = resolve(calibration.folder, base_dir)
        calibration = calibration.model_copy(update={"folder": folder})
    return config.model_copy(update={"model": model, "device": device, "calibration": calibration})


def _with_references(schema: Any) -> Any:
    """Lets `${NAME}` stand wherever the schema asks for a number or a truth value."""
    if isinstance(schema, list):
        return [_with_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _with_references(value) for key, value in schema.items()}
    if inner.get("type") not in ("integer", "number", "boolean"):
        return inner
    about = ("title", "description", "default")
    return {
        **{key: inner.pop(key) for key in about if key in inner},
        "anyOf": [inner, {"type": "string", "pattern": r"\$\{"}],
    }
