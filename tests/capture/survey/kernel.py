"""A kernel's side of the V4L2 ioctls, answered from a table."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from typing import Dict, Sequence, Tuple, TypeVar

from edge.capture import v4l2_abi as abi

T = TypeVar("T")
WEBCAM, METADATA, CODEC = 0x04200001, 0x04A00000, 0x04204000
Sizes = Dict[Tuple[int, int], Sequence[Tuple[int, int]]]
"""By size, the intervals as fractions of seconds."""


@dataclass
class Kernel:
    """One device node."""

    flags: int = WEBCAM
    driver: bytes = b"uvcvideo"
    card: bytes = b"HD Webcam: HD Webcam"
    formats: Dict[bytes, Sizes] = field(default_factory=dict)
    is_busy: bool = False
    never_says_no_more: bool = False
    controls: Dict[int, int] = field(default_factory=dict)
    defaults: Dict[int, int] = field(default_factory=dict)

    def __call__(self, request: int, data: bytearray) -> None:
        answer = {
            abi.QUERYCAP: self._capability,
            abi.REQBUFS: self._buffers,
            abi.ENUM_FMT: self._format,
            abi.ENUM_FRAMESIZES: self._size,
            abi.ENUM_FRAMEINTERVALS: self._interval,
            abi.GET_CONTROL: self._get_control,
            abi.SET_CONTROL: self._set_control,
            abi.QUERY_CONTROL: self._query_control,
        }[request](bytes(data))
        assert len(answer) == len(data)
        data[:] = answer

    def _capability(self, data: bytes) -> bytes:
        whole = self.flags | 0x80000000
        texts = (self.driver, self.card, b"usb-0000:00:14.0-1")
        return struct.pack("<16s32s32sIII12x", *texts, 0, whole, self.flags)

    def _buffers(self, data: bytes) -> bytes:
        assert struct.unpack_from("<I", data) == (0,)  # nothing may be taken
        if self.is_busy:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return data

    def _format(self, data: bytes) -> bytes:
        (index,) = struct.unpack_from("<I", data)
        code, _ = self._entry(list(self.formats.items()), index)
        return struct.pack("<III32s4s16x", index, 1, 0, b"words", code)

    def _size(self, data: bytes) -> bytes:
        index, code = struct.unpack_from("<I4s", data)
        size, _ = self._entry(list(self.formats[code].items()), index)
        return struct.pack("<I4sIII24x", index, code, 1, *size)

    def _interval(self, data: bytes) -> bytes:
        index, code, *size = struct.unpack_from("<I4sII", data)
        fraction = self._entry(list(self.formats[code][size[0], size[1]]), index)
        return struct.pack("<I4sIIIII24x", index, code, *size, 1, *fraction)

    def _get_control(self, data: bytes) -> bytes:
        control = self._known_control(data)
        return struct.pack("<Ii", control, self.controls[control])

    def _set_control(self, data: bytes) -> bytes:
        control = self._known_control(data)
        (self.controls[control],) = struct.unpack_from("<i", data, 4)
        return data

    def _query_control(self, data: bytes) -> bytes:
        control = self._known_control(data)
        limits = (0, 3, 1, self.defaults[control])
        return struct.pack("<II32s4iI8x", control, 3, b"Auto Exposure", *limits, 0)

    def _known_control(self, data: bytes) -> int:
        (control,) = struct.unpack_from("<I", data)
        if control not in self.controls:
            raise OSError(errno.EINVAL, "Invalid argument")
        return int(control)

    def _entry(self, entries: Sequence[T], index: int) -> T:
        if self.never_says_no_more:
            return entries[index % len(entries)]
        if index >= len(entries):
            raise OSError(errno.EINVAL, "Invalid argument")
        return entries[index]
