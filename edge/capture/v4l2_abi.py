"""The kernel's V4L2 structures as bytes, and back (linux/videodev2.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Tuple

_WRITE, _READ = 1, 2

# Native byte order, every field at its natural place: the same on 32 and 64 bits.
_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_FORMAT = struct.Struct("=III32sII12x")
_FRAME_SIZE = struct.Struct("=III6I8x")
_FRAME_INTERVAL = struct.Struct("=IIIII6I8x")
_CONTROL = struct.Struct("=Ii")
_CONTROL_RANGE = struct.Struct("=II32s4iI8x")
_REQUEST_BUFFERS = struct.Struct("=IIIIB3x")


def _number(direction: int, number: int, layout: struct.Struct) -> int:
    return direction << 30 | layout.size << 16 | ord("V") << 8 | number


QUERYCAP = _number(_READ, 0, _CAPABILITY)
ENUM_FMT = _number(_READ | _WRITE, 2, _FORMAT)
REQBUFS = _number(_READ | _WRITE, 8, _REQUEST_BUFFERS)
GET_CONTROL = _number(_READ | _WRITE, 27, _CONTROL)
SET_CONTROL = _number(_READ | _WRITE, 28, _CONTROL)
QUERY_CONTROL = _number(_READ | _WRITE, 36, _CONTROL_RANGE)
ENUM_FRAMESIZES = _number(_READ | _WRITE, 74, _FRAME_SIZE)
ENUM_FRAMEINTERVALS = _number(_READ | _WRITE, 75, _FRAME_INTERVAL)

EXPOSURE_AUTO = 0x009A0901
EXPOSURE_MANUAL, EXPOSURE_APERTURE_PRIORITY = 1, 3
EXPOSURE_UNITS_PER_MS = 10  # of the control of the exposure's time

_CAP_VIDEO_CAPTURE, _CAP_VIDEO_CAPTURE_MPLANE = 0x1, 0x1000
_CAP_VIDEO_M2M_MPLANE, _CAP_VIDEO_M2M = 0x4000, 0x8000
_CAP_DEVICE_CAPS = 0x80000000
_BUF_TYPE_VIDEO_CAPTURE, _BUF_TYPE_VIDEO_CAPTURE_MPLANE = 1, 9
_MEMORY_MMAP = 1
_TYPE_DISCRETE = 1
_BIG_ENDIAN = 0x80000000


@dataclass(frozen=True)
class Capability:
    """What a device node says it is; `flags` are this node's own."""

    driver: str
    card: str
    bus: str
    flags: int

    @property
    def is_camera(self) -> bool:
        """Whether it captures video; a codec and a camera's metadata node do not."""
        if self.flags & (_CAP_VIDEO_M2M | _CAP_VIDEO_M2M_MPLANE):
            return False
        return bool(self.flags & (_CAP_VIDEO_CAPTURE | _CAP_VIDEO_CAPTURE_MPLANE))

    @property
    def buffer_type(self) -> int:
        """The buffer type its formats are asked with."""
        is_single = self.flags & _CAP_VIDEO_CAPTURE
        return _BUF_TYPE_VIDEO_CAPTURE if is_single else _BUF_TYPE_VIDEO_CAPTURE_MPLANE


@dataclass(frozen=True)
class FormatEntry:
    """A pixel format."""

    code: int
    description: str

    @property
    def fourcc(self) -> str:
        """The four characters, as in YUYV or MJPG."""
        text = struct.pack("<I", self.code & ~_BIG_ENDIAN).decode("latin-1").rstrip()
        return f"{text}-BE" if self.code & _BIG_ENDIAN else text


@dataclass(frozen=True)
class SizeEntry:
    """One frame size, or with `is_range` every size between the two; pixels."""

    smallest_wh: Tuple[int, int]
    largest_wh: Tuple[int, int]
    is_range: bool


@dataclass(frozen=True)
class IntervalEntry:
    """One frame rate, or with `is_range` every rate between the two; frames per second."""

    slowest_fps: float
    fastest_fps: float
    is_range: bool


def capability_request() -> bytearray:
    """For QUERYCAP."""
    return bytearray(_CAPABILITY.size)


def parse_capability(data: bytes) -> Capability:
    """What QUERYCAP answered."""
    driver, card, bus, _version, whole, node = _CAPABILITY.unpack(data)
    # The whole device's flags name what its other nodes do too, where the node has its own.
    return Capability(
        _text(driver), _text(card), _text(bus), node if whole & _CAP_DEVICE_CAPS else whole
    )


def format_request(index: int, buffer_type: int) -> bytearray:
    """For ENUM_FMT."""
    return bytearray(_FORMAT.pack(index, buffer_type, 0, b"", 0, 0))


def parse_format(data: bytes) -> FormatEntry:
    """What ENUM_FMT answered."""
    _index, _type, _flags, description, code, _mbus = _FORMAT.unpack(data)
    return FormatEntry(code, _text(description))


def size_request(index: int, code: int) -> bytearray:
    """For ENUM_FRAMESIZES."""
    return bytearray(_FRAME_SIZE.pack(index, code, 0, *[0] * 6))


def parse_size(data: bytes) -> SizeEntry:
    """What ENUM_FRAMESIZES answered."""
    _index, _code, kind, first, second, _step_w, min_h, max_h, _step_h = _FRAME_SIZE.unpack(data)
    if kind == _TYPE_DISCRETE:
        return SizeEntry((first, second), (first, second), is_range=False)
    return SizeEntry((first, min_h), (second, max_h), is_range=True)


def interval_request(index: int, code: int, size_wh: Tuple[int, int]) -> bytearray:
    """For ENUM_FRAMEINTERVALS."""
    return bytearray(_FRAME_INTERVAL.pack(index, code, *size_wh, 0, *[0] * 6))


def parse_interval(data: bytes) -> IntervalEntry:
    """What ENUM_FRAMEINTERVALS answered."""
    _index, _code, _w, _h, kind, *fractions = _FRAME_INTERVAL.unpack(data)
    shortest, longest = _fps(*fractions[:2]), _fps(*fractions[2:4])
    if kind == _TYPE_DISCRETE:
        return IntervalEntry(shortest, shortest, is_range=False)
    return IntervalEntry(longest, shortest, is_range=True)


def free_buffers_request(buffer_type: int) -> bytearray:
    """For REQBUFS of no buffers: takes nothing, and fails with EBUSY where another streams."""
    return bytearray(_REQUEST_BUFFERS.pack(0, buffer_type, _MEMORY_MMAP, 0, 0))


def control_request(control: int, value: int = 0) -> bytearray:
    """For GET_CONTROL and SET_CONTROL."""
    return bytearray(_CONTROL.pack(control, value))


def parse_control(data: bytes) -> int:
    """The value that GET_CONTROL answered."""
    _control, value = _CONTROL.unpack(data)
    return int(value)


def default_request(control: int) -> bytearray:
    """For QUERY_CONTROL."""
    return bytearray(_CONTROL_RANGE.pack(control, 0, b"", 0, 0, 0, 0, 0))


def parse_default(data: bytes) -> int:
    """The driver's own value of a control, of what QUERY_CONTROL answered."""
    return int(_CONTROL_RANGE.unpack(data)[6])


def _fps(numerator: int, denominator: int) -> float:
    # An interval is a fraction of seconds; some drivers leave one at 0/0.
    return denominator / numerator if numerator else 0.0


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
