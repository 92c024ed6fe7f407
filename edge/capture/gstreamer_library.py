"""GStreamer's own library, asked for what OpenCV does not tell: why a pipeline cannot be built.

OpenCV 4.6 goes on with what is left of a pipeline with an unknown element, and waits for ever.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Optional

_LIBRARY = "libgstreamer-1.0.so.0"
_FATAL_ERRORS = 1  # GST_PARSE_FLAG_FATAL_ERRORS


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


def parse_fault(launch_line: str) -> Optional[str]:
    """Why GStreamer cannot build the pipeline, in its words; None if it can, or is not here.

    The words may quote the line. The pipeline is built and thrown away, not started.
    """
    library = _library()
    if library is None:
        return None
    fault = ctypes.POINTER(_GError)()
    text = launch_line.encode(errors="surrogateescape")
    pipeline = library.gst_parse_launch_full(text, None, _FATAL_ERRORS, ctypes.byref(fault))
    if pipeline:
        library.gst_object_unref(pipeline)
    if not fault:
        return None
    message: bytes = fault.contents.message
    words = message.decode(errors="replace")
    library.g_clear_error(ctypes.byref(fault))
    return words


def has_element(name: str) -> bool:
    """Whether GStreamer is here and knows the element."""
    return _library() is not None and parse_fault(name) is None


@functools.lru_cache(maxsize=None)
def _library() -> Optional[ctypes.CDLL]:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    library.gst_parse_launch_full.restype = ctypes.c_void_p
    library.gst_parse_launch_full.argtypes = (
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.POINTER(_GError)),
    )
    library.gst_object_unref.restype = None
    library.gst_object_unref.argtypes = (ctypes.c_void_p,)
    library.g_clear_error.restype = None
    library.g_clear_error.argtypes = (ctypes.POINTER(ctypes.POINTER(_GError)),)
    return library if library.gst_init_check(None, None, None) else None
