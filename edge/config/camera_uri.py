"""What a camera's `uri` means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Tuple, Union
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HALF_SCHEME = re.compile(r"^(rtsps?|synthetic|csi):(?!//)", re.IGNORECASE)
_GSTREAMER = re.compile(r"^gstreamer:", re.IGNORECASE)
# Names under v4l/ (by-id, by-path) stay with a camera when it is plugged in elsewhere.
_V4L2_DEVICE = re.compile(r"^/dev/(video\d+|v4l/.+)$")
_SIZE = re.compile(r"^(\d{1,5})x(\d{1,5})$")
# Up to the last @: a password with an unescaped @ or / in it must not show either.
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://).*@", re.DOTALL)
# In a pipeline there may be more elements behind it.
_CREDENTIALS_IN_A_PIPELINE = (
    re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@"),
    re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^!]*@"),
)
# Some cameras want them in the path or the query: /user=admin&password=x&channel=1
# or /user=admin_password=x_channel=1.sdp
_NAMED_SECRET = re.compile(
    r"((?:pass\w*?|pas|pwd|psw|pw|token|auth|key|secret))=(?:(?!_channel|_stream)[^&/])*",
    re.IGNORECASE,
)
# Properties of GStreamer's elements: user-id, user-pw, proxy-pw, secret-access-key.
_SECRET_PROPERTY = re.compile(
    r"\b([\w-]*(?:user-id|pw|pass\w*|pwd|token|key|secret|extra-headers))\s*=\s*"
    r"(\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?:\\.|\S)+)",
    re.IGNORECASE,
)
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
_DEFAULT_SIZE_WH = (640, 480)
_MIN_SIDE_PX, _MAX_SIDE_PX = 64, 7680
_MAX_SEED = 2**32 - 1
_MAX_SENSOR = 31


@dataclass(frozen=True)
class MediaSpec:
    """A video file or a folder of images; only the disk can tell which."""

    path: Path


@dataclass(frozen=True)
class SyntheticSpec:
    """A rendered scene; the size is in pixels."""

    seed: int
    size_wh: Tuple[int, int]


@dataclass(frozen=True)
class RtspSpec:
    """A network camera; `url` holds its credentials, `address` (host:port) does not."""

    url: str = field(repr=False)
    address: str


@dataclass(frozen=True)
class V4l2Spec:
    """A camera of this machine, usually on USB."""

    device: Path


@dataclass(frozen=True)
class CsiSpec:
    """A camera on the module's own connector, by its sensor's number."""

    sensor: int


@dataclass(frozen=True)
class GStreamerSpec:
    """A pipeline in the words of gst-launch; it may hold credentials."""

    launch_line: str = field(repr=False)


SourceSpec = Union[MediaSpec, SyntheticSpec, RtspSpec, V4l2Spec, CsiSpec, GStreamerSpec]


class CameraUri:
    """Where a camera's frames come from; it prints without user and password.

    Raises ValueError, in words for the user, for text that names no source.
    """

    def __init__(self, text: str) -> None:
        parse(text, Path())  # raises ValueError if it makes no sense
        self._text = text

    def resolve(self, base_dir: Path) -> SourceSpec:
        """What it names; a relative path starts at `base_dir`."""
        return parse(self._text, base_dir)

    def __str__(self) -> str:
        if _GSTREAMER.match(self._text):
            return masked(self._text)
        if _SCHEME.match(self._text) is None:
            return self._text
        return _NAMED_SECRET.sub(r"\1=***", _CREDENTIALS.sub(r"\1***@", self._text))

    def __repr__(self) -> str:
        return f"CameraUri({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CameraUri) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(min_length=1)
        )


def masked(launch_line: str) -> str:
    """A GStreamer pipeline as it may be shown: without users, passwords and keys."""
    for credentials in _CREDENTIALS_IN_A_PIPELINE:
        launch_line = credentials.sub(r"\1***@", launch_line)
    return _SECRET_PROPERTY.sub(r"\1=***", launch_line)


def parse(uri: str, base_dir: Path) -> SourceSpec:
    """Tells what `uri` names; a relative path starts at `base_dir`.

    Raises ValueError with a line for the user, free of credentials.
    """
    if "\0" in uri:
        raise ValueError("must not contain a NUL character")
    half = _HALF_SCHEME.match(uri)
    if half:
        raise ValueError(f"{half.group(1)}: must be followed by //")
    gstreamer = _GSTREAMER.match(uri)
    if gstreamer:
        return _parse_gstreamer(uri[gstreamer.end() :])
    match = _SCHEME.match(uri)
    if match:
        return _parse_url(match.group(1).lower(), uri[match.end() :])
    if _V4L2_DEVICE.match(uri):
        return V4l2Spec(Path(uri))
    return MediaSpec(base_dir / uri)


def _parse_url(scheme: str, rest: str) -> SourceSpec:
    if scheme in _DEFAULT_PORTS:
        return _parse_rtsp(scheme, rest)
    if scheme == "synthetic":
        return _parse_synthetic(rest)
    if scheme == "csi":
        return _parse_csi(rest)
    raise ValueError(
        f"unknown kind {scheme}://; give rtsp://…, csi://0, synthetic://…, /dev/video0, "
        "gstreamer:…, or the path of a video file or of a folder of images"
    )


def _parse_csi(rest: str) -> CsiSpec:
    if not (rest.isascii() and rest.isdigit() and int(rest) <= _MAX_SENSOR):
        raise ValueError(
            f"csi:// needs a sensor's number of 0 to {_MAX_SENSOR}, for example csi://0; "
            "size_wh, capture_fps and the like are keys of the camera"
        )
    return CsiSpec(int(rest))


def _parse_gstreamer(rest: str) -> GStreamerSpec:
    launch_line = rest.strip()
    if not launch_line or launch_line.startswith(("/", "!")) or launch_line.endswith("!"):
        raise ValueError(
            "gstreamer: needs a pipeline in the words of gst-launch, from its source on, "
            "for example gstreamer:videotestsrc is-live=true"
        )
    return GStreamerSpec(launch_line)


def _parse_rtsp(scheme: str, rest: str) -> RtspSpec:
    url = f"{scheme}://{rest}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Python's own message quotes what it took for the port: often half of a password.
        raise ValueError(
            "the address is not host or host:port; in a user name or password write "
            "@ as %40, : as %3A, / as %2F, ? as %3F, # as %23"
        ) from None
    if not host:
        raise ValueError(f"{scheme}:// needs a host, for example {scheme}://192.168.1.20/stream")
    shown = f"[{host}]" if ":" in host else host
    return RtspSpec(url, f"{shown}:{port or _DEFAULT_PORTS[scheme]}")


def _parse_synthetic(rest: str) -> SyntheticSpec:
    parts = urlsplit(f"synthetic://{rest}")
    seed = parts.netloc
    if not (seed.isascii() and seed.isdigit() and int(seed) <= _MAX_SEED):
        raise ValueError(
            f"synthetic:// needs a seed of 0 to {_MAX_SEED}, for example synthetic://7"
        )
    if parts.path or parts.fragment:
        raise ValueError("after the seed only ?size=WIDTHxHEIGHT may follow")
    options = _parse_options(parts)
    size = options.pop("size", None)
    if options:
        raise ValueError(f"synthetic:// has no option {min(options)!r}; it has size")
    return SyntheticSpec(int(seed), _DEFAULT_SIZE_WH if size is None else _parse_size(size))


def _parse_options(parts: SplitResult) -> Dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError("an option is given twice")
    return options


def _parse_size(text: str) -> Tuple[int, int]:
    match = _SIZE.match(text)
    width, height = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not _MIN_SIDE_PX <= min(width, height) <= max(width, height) <= _MAX_SIDE_PX:
        raise ValueError(
            f"size must be WIDTHxHEIGHT of {_MIN_SIDE_PX} to {_MAX_SIDE_PX} pixels each, "
            f"for example 640x480, not {text!r}"
        )
    return width, height
