"""Work of a stream that is recorded once and queued as a whole from then on."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Callable

from edge.errors import EngineError
from edge.inference.cuda import Context, Stream

# Other threads may allocate and wait meanwhile; this one may not.
_CAPTURE_THREAD_LOCAL = 1


class Graph:
    """One call to the driver instead of one per kernel.

    On an H100's host the demo's model is queued in 0.06 to 0.08 ms instead of 0.55 ms so
    (benchmarks/results/overlap-h100-tensorrt-8.5.2.json).

    Made, launched and closed where the context is current.
    """

    def __init__(self, context: Context, stream: Stream, queue: Callable[[], None]) -> None:
        """Records what `queue` queues on `stream`, none of which is done.

        Raises CudaError where some of it cannot be recorded, and what `queue` raises.
        """
        self._driver = context.driver
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        handle = ctypes.c_void_p(stream.handle)
        self._driver.call("cuStreamBeginCapture_v2", handle, _CAPTURE_THREAD_LOCAL)
        try:
            queue()
        except EngineError:
            with suppress(EngineError):  # what ended the recording is of interest
                self._driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
                self._driver.call("cuGraphDestroy", graph)
            raise
        # Or the stream would record for ever.
        self._driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
        try:
            arguments = (ctypes.byref(self._executable), graph, 0)
            self._driver.call("cuGraphInstantiateWithFlags", *arguments)
        finally:
            self._driver.call("cuGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """Queues all of it."""
        self._driver.call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Frees it, no launch of it being queued any more; may be called again."""
        if self._executable:
            executable, self._executable = self._executable, ctypes.c_void_p()
            self._driver.call("cuGraphExecDestroy", executable)
