"""The largest batch that fitted into the device's memory, kept so that no start tries more again.

Beside the engines; believed only for the very network, device and request it was found with.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, Optional

from pydantic import BaseModel, ConfigDict, Field

from edge.atomic_file import replace_text
from edge.building.fingerprint import BackendKey, GraphKey, Key
from edge.building.kept_file import parse_kept, read_kept
from edge.clock import SystemClock, rfc3339
from edge.config.schema import Precision

log = logging.getLogger(__name__)

FILE_NAME = "batch-limit.json"
_LARGEST_BYTES = 64 * 1024


class LimitKey(Key):
    """What the limit was found with; `max_batch` is the largest batch that was asked for."""

    graph: GraphKey
    backend: BackendKey
    wanted: Precision
    max_batch: int


class BatchLimit(BaseModel):
    """The whole file; `reason` is what was said of larger batches."""

    model_config = ConfigDict(frozen=True)  # newer keys are no harm

    schema_id: Literal["edge.batch-limit/1"] = Field("edge.batch-limit/1", alias="schema")
    created: str
    key: LimitKey
    max_batch: int = Field(ge=1)
    reason: str


class LimitFile:
    """The limit of what `key` names, in the engines' folder."""

    def __init__(self, folder: Path, key: LimitKey) -> None:
        self._path = folder / FILE_NAME
        self._key = key

    def read(self) -> Optional[BatchLimit]:
        """What an earlier start found; None where it found nothing, or for something else."""
        try:
            limit = parse_kept(read_kept(self._path, _LARGEST_BYTES), BatchLimit)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("ignored %s: %s", self._path, getattr(error, "strerror", None) or error)
            return None
        differences = limit.key.differences(self._key)
        if differences:
            log.info("ignored %s: %s", self._path, "; ".join(differences))
            return None
        return limit

    def keep(self, max_batch: int, reason: str) -> BatchLimit:
        """Keeps what was found; where that fails, the next start finds it anew."""
        created = rfc3339(SystemClock().unix_ms())
        limit = BatchLimit(created=created, key=self._key, max_batch=max_batch, reason=reason)
        try:
            replace_text(self._path, limit.model_dump_json(by_alias=True, indent=2) + "\n")
        except OSError as error:
            log.warning("cannot keep %s: %s", self._path, error.strerror)
        return limit

    def words(self, limit: BatchLimit) -> str:
        """What a limit means to the user, and how it is lifted."""
        return (
            f"at most {limit.max_batch} frames at once, as memory ran out with more "
            f"({limit.reason}); to try more again, delete {self._path}"
        )
