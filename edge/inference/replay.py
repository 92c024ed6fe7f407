"""Queues a network's work as a whole once batches of one size repeat."""

from __future__ import annotations

import logging
from collections import deque
from typing import Deque, Dict, Tuple

from edge.errors import EngineError
from edge.inference.cuda import Context, Stream
from edge.inference.cuda_graph import Graph
from edge.inference.program import Program

log = logging.getLogger(__name__)

STEADY = 8
"""Batches of one size in a row that say there will be more: recording costs about two of them."""

# Frames that the GPU reads from the host lie in as many places as there are slots and chunks.
_MOST = 32

_Buffers = Tuple[int, int]


class Replay:
    """Queues one program's batches; `in_flight` are queued and not done at most.

    A recording is of one size and one pair of buffers, and means nothing once the program was
    given another size: what TensorRT recorded may read memory that the size decides.
    """

    def __init__(
        self, context: Context, program: Program, in_flight: int, *, is_on: bool = True
    ) -> None:
        self._context = context
        self._program = program
        self._in_flight = in_flight
        self._is_on = is_on
        self._rows = 0
        self._run = 0
        self._graphs: Dict[_Buffers, Graph] = {}
        self._retired: Deque[Tuple[int, Graph]] = deque()
        self._queued = 0

    @property
    def recordings(self) -> int:
        """Graphs at hand for the present size."""
        return len(self._graphs)

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        """Queues one batch on a stream; raises EngineError."""
        self._queued += 1
        self._free_retired()
        if rows != self._rows:
            self._forget(rows)
        self._run += 1
        buffers = (frames_pointer, detections_pointer)
        if self._is_due(buffers):
            self._record(buffers, stream)
        graph = self._graphs.get(buffers)
        if graph is not None:
            graph.launch(stream)
        else:
            self._program.enqueue(rows, *buffers, stream)

    def close(self) -> None:
        """Frees the recordings, nothing being queued any more; may be called again."""
        for graph in (*self._graphs.values(), *(graph for _, graph in self._retired)):
            graph.close()
        self._graphs.clear()
        self._retired.clear()

    def _is_due(self, buffers: _Buffers) -> bool:
        has_room = self._is_on and len(self._graphs) < _MOST
        return has_room and self._run > STEADY and buffers not in self._graphs

    def _record(self, buffers: _Buffers, stream: Stream) -> None:
        rows = self._rows

        def queue() -> None:
            self._program.enqueue(rows, *buffers, stream)

        try:
            self._graphs[buffers] = Graph(self._context, stream, queue)
        except EngineError as error:
            log.info("batches are queued kernel by kernel, for they cannot be recorded: %s", error)
            self._is_on = False
            self._forget(rows)

    def _forget(self, rows: int) -> None:
        """Begins with another size; what is queued of the last may still run."""
        self._retired.extend((self._queued, graph) for graph in self._graphs.values())
        self._graphs = {}
        self._rows = rows
        self._run = 0

    def _free_retired(self) -> None:
        while self._retired and self._queued > self._retired[0][0] + self._in_flight:
            self._retired.popleft()[1].close()
