"""Engines on disk: found again only where everything is as it was, replaced in one step."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Iterator, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field

from edge.atomic_file import replace_bytes, replace_text
from edge.building.fingerprint import Fingerprint
from edge.building.gate_report import GateReport
from edge.building.kept_file import parse_kept, read_kept
from edge.errors import ConfigError
from edge.records import Lane

log = logging.getLogger(__name__)

_LARGEST_MANIFEST_BYTES = 4 * 2**20

# Held by the process that builds; the kernel takes it from one that dies.
_LOCK_NAME = "lock"


class Manifest(BaseModel):
    """What a stored engine is; `file` is None where the gate refused it and nothing was kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_id: Literal["edge.engine-file/1"] = Field("edge.engine-file/1", alias="schema")
    created: str
    fingerprint: Fingerprint
    file: Optional[str]
    size_bytes: int
    sha256: str
    head_in_float: bool = False
    gate: Optional[GateReport] = None


@dataclass(frozen=True)
class Hit:
    """An engine that fits; `data` is None where the gate had refused it."""

    data: Optional[bytes]
    gate: Optional[GateReport] = None


@dataclass(frozen=True)
class Miss:
    """There is no engine to use again, and why."""

    reason: str


class EngineStore:
    """A folder with one engine per backend, lane and precision, and a manifest beside it.

    A refusal by the gate has a manifest of its own: the last good engine stays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, wanted: Fingerprint, *, ignoring: Optional[str] = None) -> Union[Hit, Miss]:
        """The engine with this very fingerprint, checked to the last byte, or why there is none.

        `ignoring` names a part of it that may be another.
        """
        try:
            return self._find(wanted, ignoring)
        except OSError as error:
            return Miss(f"cannot be read: {error.strerror}")

    @contextlib.contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[bool]:
        """Keeps other processes from making engines here meanwhile; True where one just did.

        Two builds at once would want twice the memory, and time their kernels wrong. Calls
        `on_wait` before it waits. Raises ConfigError where nothing could be kept: better now than
        after a long build.
        """
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                file = held.enter_context((self.folder / _LOCK_NAME).open("w", encoding="ascii"))
                has_waited = not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if has_waited:
                    on_wait()
                    _lock(file, fcntl.LOCK_EX)
                self._check_writable()
            except OSError as error:
                raise self._unwritable(error) from error
            yield has_waited

    def _check_writable(self) -> None:
        probe = self.folder / "probe"
        replace_bytes(probe, b"")
        probe.unlink()

    def save(
        self,
        fingerprint: Fingerprint,
        created: str,
        data: Optional[bytes],
        gate: Optional[GateReport] = None,
        *,
        head_in_float: bool = False,
    ) -> Manifest:
        """Replaces the engine of this backend, lane and precision; ConfigError where it cannot.

        The old one stays until the new one is whole on the disk. Without `data` it is the gate's
        refusal that is kept.
        """
        content = data or b""
        digest = hashlib.sha256(content).hexdigest()
        slot = _slot(fingerprint)
        manifest = Manifest(
            created=created,
            fingerprint=fingerprint,
            file=None if data is None else f"{slot}-{digest[:12]}.engine",
            size_bytes=len(content),
            sha256=digest,
            head_in_float=head_in_float,
            gate=gate,
        )
        try:
            if data is not None and manifest.file is not None:
                replace_bytes(self.folder / manifest.file, data)
            name = f"{slot}.json" if manifest.file else f"{slot}.refused.json"
            replace_text(self.folder / name, manifest.model_dump_json(by_alias=True))
        except OSError as error:
            raise self._unwritable(error) from error
        self._sweep(slot, manifest)
        return manifest

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"cannot keep the engine in {self.folder}: {error.strerror}; "
            "free disk space or correct device.state_dir"
        )

    def _find(self, wanted: Fingerprint, ignoring: Optional[str]) -> Union[Hit, Miss]:
        slot = _slot(wanted)
        misses = []
        for name in (f"{slot}.json", f"{slot}.refused.json"):
            try:
                manifest = _read_manifest(self.folder / name)
            except FileNotFoundError:
                continue
            except ValueError as error:
                misses.append(f"{name} is damaged: {error}")
                continue
            differences = [
                difference
                for difference in manifest.fingerprint.differences(wanted)
                if ignoring is None or difference.split()[0] != ignoring
            ]
            if not differences:
                return self._check(manifest)
            misses.append("; ".join(differences))
        return Miss(misses[0] if misses else "none was built yet")

    def _check(self, manifest: Manifest) -> Union[Hit, Miss]:
        if manifest.file is None:
            return Hit(None, manifest.gate)
        try:
            data = (self.folder / manifest.file).read_bytes()
        except FileNotFoundError:
            return Miss(f"{manifest.file} is gone")
        if len(data) != manifest.size_bytes:
            return Miss(f"{manifest.file} has {len(data)} of {manifest.size_bytes} bytes")
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            return Miss(f"{manifest.file} is damaged: its checksum is wrong")
        return Hit(data, manifest.gate)

    def _sweep(self, slot: str, manifest: Manifest) -> None:
        """Removes what an older engine or a killed build left of this slot."""
        patterns = [f"{slot}-*.engine.*.tmp", f"{slot}.*.tmp"]
        if manifest.file is not None:
            patterns += [f"{slot}-*.engine", f"{slot}.refused.json"]
        for path in (path for pattern in patterns for path in self.folder.glob(pattern)):
            if path.name != manifest.file:
                with contextlib.suppress(OSError):
                    path.unlink()


def _read_manifest(path: Path) -> Manifest:
    return parse_kept(read_kept(path, _LARGEST_MANIFEST_BYTES), Manifest)


def _slot(fingerprint: Fingerprint) -> str:
    backend = fingerprint.backend
    parts = [backend.name, fingerprint.precision.value]
    if backend.lane is not Lane.BATCH:
        parts.insert(1, backend.lane.value)
    return "-".join(parts)


def _lock(file: IO[str], how: int) -> bool:
    """Takes the lock; False where another process has it and `how` says not to wait."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True
