"""What `edge bench --tune` chose, on disk; believed only where it was measured.

The file holds numbers of one model on one engine: for any other they mean nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, List, Literal, Tuple

from pydantic import BaseModel, ConfigDict, Field

from edge.atomic_file import replace_text
from edge.building.fingerprint import Key
from edge.building.kept_file import parse_kept, read_kept
from edge.building.tune import LADDER
from edge.config.schema import BatchingConfig
from edge.errors import ConfigError
from edge.records import BatchTarget, DeployedGraph, EngineInfo, TargetSource

log = logging.getLogger(__name__)

FILE_NAME = "tuning.json"
_LARGEST_BYTES = 256 * 1024


class TuningKey(Key):
    """What a measurement was made with; `max_batch` is the largest batch of one engine call,
    whatever memory is free at the moment."""

    model_config = ConfigDict(strict=True)

    model_sha256: str
    input_wh: Tuple[int, int]
    backend: str
    version: str
    device: str
    precision: str
    max_batch: int

    @classmethod
    def of(cls, graph: DeployedGraph, engine: EngineInfo) -> TuningKey:
        """The key of a graph on an engine."""
        return cls(
            model_sha256=graph.sha256,
            input_wh=graph.preprocessing.input_wh,
            backend=engine.backend,
            version=engine.version,
            device=engine.device,
            precision=engine.precision,
            max_batch=engine.max_batch,
        )


class Tuning(BaseModel):
    """The whole file; `table` is for people, nothing reads it back."""

    model_config = ConfigDict(frozen=True, strict=True)  # newer keys are no harm

    schema_id: Literal["edge.tuning/1"] = Field(alias="schema")
    created: str
    key: TuningKey
    target: int = Field(ge=1, le=LADDER[-1])
    table: List[Dict[str, Any]] = Field(max_length=len(LADDER))


def save_tuning(state_dir: Path, tuning: Tuning) -> Path:
    """Replaces the file in one step and returns its path; ConfigError where it cannot."""
    path = state_dir / FILE_NAME
    text = tuning.model_dump_json(by_alias=True, indent=2)
    write_file(path, f"{text}\n")
    return path


def write_file(path: Path, text: str) -> None:
    """Writes so that after a power cut there is the old file or the new one; or ConfigError."""
    try:
        replace_text(path, text)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(
            f"cannot write {path}: {_reason(error)}; make its folder writable, or choose another"
        ) from error


def batch_target(batching: BatchingConfig, state_dir: Path, key: TuningKey) -> BatchTarget:
    """The size at which batches leave at once, and who said so.

    The user's word goes first, then what was measured with this very `key`, then the default.
    A file that cannot be believed is warned about and ignored.
    """
    if "target" in batching.model_fields_set:
        return BatchTarget(batching.target, TargetSource.CONFIG)
    path = state_dir / FILE_NAME
    try:
        target = tuned_target(read_kept(path, _LARGEST_BYTES), key)
        return BatchTarget(target, TargetSource.BENCH)
    except FileNotFoundError:
        pass  # nothing was measured
    except (OSError, ValueError) as error:
        log.warning(
            "ignored %s: %s; batching.target is %d, `edge bench --tune` measures again",
            path,
            _reason(error),
            batching.target,
        )
    return BatchTarget(batching.target, TargetSource.DEFAULT)


def tuned_target(data: bytes, key: TuningKey) -> int:
    """The target that a file's content gives for `key`; ValueError, in words, if it gives none."""
    try:
        tuning = parse_kept(data, Tuning)
    except ValueError as error:
        raise ValueError(f"damaged ({error})") from error
    differences = tuning.key.differences(key)
    if differences:
        raise ValueError(f"measured with something else ({', '.join(differences)})")
    return tuning.target


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
