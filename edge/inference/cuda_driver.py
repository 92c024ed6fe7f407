"""CUDA's driver library, by ctypes.

pycuda knows neither the priority of a stream nor an event's handle, and where it frees memory after
a fault of the device it prints a warning for each piece instead of telling its caller.
"""

from __future__ import annotations

import ctypes
from typing import Any, Dict, Tuple

from edge.errors import ConfigError, CudaError, EngineOutOfMemory

_DRIVER_LIBRARY = "libcuda.so.1"
_SUCCESS, _OUT_OF_MEMORY, _NOT_READY = 0, 2, 600

_handle = ctypes.c_void_p
_device_pointer = ctypes.c_uint64
# Every function returns a CUresult.
FUNCTIONS: Dict[str, Tuple[Any, ...]] = {
    "cuCtxGetStreamPriorityRange": (ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)),
    "cuStreamCreateWithPriority": (ctypes.POINTER(_handle), ctypes.c_uint, ctypes.c_int),
    "cuStreamDestroy_v2": (_handle,),
    "cuStreamSynchronize": (_handle,),
    "cuStreamQuery": (_handle,),
    "cuStreamWaitEvent": (_handle, _handle, ctypes.c_uint),
    "cuEventCreate": (ctypes.POINTER(_handle), ctypes.c_uint),
    "cuEventDestroy_v2": (_handle,),
    "cuEventRecord": (_handle, _handle),
    "cuEventQuery": (_handle,),
    "cuEventSynchronize": (_handle,),
    "cuEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _handle, _handle),
    "cuMemAlloc_v2": (ctypes.POINTER(_device_pointer), ctypes.c_size_t),
    "cuMemFree_v2": (_device_pointer,),
    "cuMemHostAlloc": (ctypes.POINTER(_handle), ctypes.c_size_t, ctypes.c_uint),
    "cuMemHostGetDevicePointer_v2": (ctypes.POINTER(_device_pointer), _handle, ctypes.c_uint),
    "cuMemFreeHost": (_handle,),
    "cuMemcpyHtoDAsync_v2": (_device_pointer, _handle, ctypes.c_size_t, _handle),
    "cuMemcpyDtoHAsync_v2": (_handle, _device_pointer, ctypes.c_size_t, _handle),
    "cuStreamBeginCapture_v2": (_handle, ctypes.c_int),
    "cuStreamEndCapture": (_handle, ctypes.POINTER(_handle)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_handle), _handle, ctypes.c_uint64),
    "cuGraphLaunch": (_handle, _handle),
    "cuGraphDestroy": (_handle,),
    "cuGraphExecDestroy": (_handle,),
    "cuGetErrorName": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


class Driver:
    """The library; every call is checked. ctypes lets other threads run meanwhile."""

    def __init__(self, path: str = _DRIVER_LIBRARY) -> None:
        try:
            # Global, so that pycuda finds the driver's names however it was linked.
            self._library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise ConfigError(
                f"engine.backend: there is no NVIDIA driver here ({error}); use onnxruntime on "
                "the CPU"
            ) from error
        try:
            for name, arguments in FUNCTIONS.items():
                getattr(self._library, name).argtypes = arguments
        except AttributeError as error:
            raise ConfigError(
                f"engine.backend: the NVIDIA driver is older than CUDA 11.4 ({error}); install a "
                "newer one, or use onnxruntime on the CPU"
            ) from error

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function; raises CudaError, or EngineOutOfMemory."""
        code = self._code(name, arguments)
        if code != _SUCCESS:
            raise self._error(code, name)

    def is_ready(self, name: str, handle: ctypes.c_void_p) -> bool:
        """Asks whether queued work is done; raises CudaError where it failed."""
        code = self._code(name, (handle,))
        if code not in (_SUCCESS, _NOT_READY):
            raise self._error(code, name)
        return code == _SUCCESS

    def _code(self, name: str, arguments: Tuple[Any, ...]) -> int:
        return int(getattr(self._library, name)(*arguments))

    def _error(self, code: int, call: str) -> Exception:
        text = ctypes.c_char_p()
        self._code("cuGetErrorName", (code, ctypes.byref(text)))
        name = text.value.decode() if text.value else f"CUDA error {code}"
        if code == _OUT_OF_MEMORY:
            return EngineOutOfMemory(f"{call} failed: {name}")
        return CudaError(name, call)
