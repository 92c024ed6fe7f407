"""How late a batch closes and how late its payloads leave, beside what no daemon could beat."""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_right
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Tuple
from unittest.mock import patch

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.daemon import MODEL_WH, Daemon, EngineDouble, MemoryCamera, noise
from edge.batching.ring import SlotRing
from edge.clock import NS_PER_MS, NS_PER_S, SystemClock
from edge.config.schema import PostprocessConfig
from edge.geometry import Image, Letterbox
from edge.inference.pipeline import Pipeline
from edge.postprocess.postprocess import Postprocessor
from edge.publish.envelope import Header
from edge.publish.payload import ServedModel, detections_payload
from edge.records import (
    Batch,
    BatchItem,
    BatchResult,
    FrameInfo,
    FrameResult,
    TimestampSource,
)

# As large as the picture inside the letterbox: nothing is to be resized here.
_SMALL_WH = (640, 360)
_PATIENCE_S = 5.0


class BatchTap:
    """Notes every batch that is handed to the pipeline."""

    def __init__(self) -> None:
        self.batches: List[Batch] = []

    def install(self, stack: ExitStack) -> None:
        """Stays until the stack is closed."""
        submit_itself = Pipeline.submit

        def submit(pipeline: Pipeline, batch: Batch) -> None:
            self.batches.append(batch)
            submit_itself(pipeline, batch)

        stack.enter_context(patch.object(Pipeline, "submit", submit))


# --- closing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lateness:
    """Nanoseconds after the deadline: of batches that closed, and of bare waits that ended."""

    closes: List[int]
    bare_waits: List[int]


def measure_closing(broker_port: int, seconds: float) -> Lateness:
    """Two cameras in turn, so that no batch is ever full and each leaves at its deadline.

    After each batch comes one bare wait of the same length.
    """
    max_wait_ms, fps = 10, 20.0
    gate = threading.Barrier(2)
    cameras = [
        MemoryCamera(noise(_SMALL_WH, 2), fps, _together(gate, delay_s))
        for delay_s in (0.0, 0.5 / fps)
    ]
    tap, is_out = BatchTap(), threading.Event()
    bare_waits: List[int] = []
    sections = {"batching": {"target": 2, "max_wait_ms": max_wait_ms}}
    with ExitStack() as stack:
        tap.install(stack)
        engine = EngineDouble(infer_s=0.0)
        stack.enter_context(
            Daemon(cameras, engine, broker_port, lambda result: is_out.set(), sections)
        )
        del tap.batches[:]
        end_ns = time.monotonic_ns() + int(seconds * NS_PER_S)
        while time.monotonic_ns() < end_ns:
            is_out.wait(_PATIENCE_S)
            is_out.clear()
            bare_waits.append(_bare_wait_lateness_ns(max_wait_ms / 1e3))
    closes = [b.closed_ns - b.opened_ns - max_wait_ms * NS_PER_MS for b in tap.batches]
    # A camera that was held up meets the other in one batch, which is full and leaves early.
    return Lateness([late_ns for late_ns in closes if late_ns >= 0], bare_waits)


def _together(gate: threading.Barrier, delay_s: float = 0.0) -> Callable[[int], None]:
    """Starts the cameras at one moment, each after its delay."""

    def wait(frame: int) -> None:
        if frame == 0:
            gate.wait(_PATIENCE_S)
            time.sleep(delay_s)

    return wait


def _bare_wait_lateness_ns(wait_s: float) -> int:
    event = threading.Event()
    deadline_ns = time.monotonic_ns() + int(wait_s * NS_PER_S)
    event.wait(wait_s)
    return time.monotonic_ns() - deadline_ns


# --- from closing to the socket --------------------------------------------------------------


@dataclass(frozen=True)
class CloseToPublish:
    """Nanoseconds per frame from its batch's closing to its payload's sending, less inference."""

    daemon: List[int]
    plain_loop: List[int]


def measure_close_to_publish(broker_port: int, cameras: int, seconds: float) -> CloseToPublish:
    """Batches of one frame of each camera; after each, the same steps in a plain loop."""
    gate = threading.Barrier(cameras)
    images = noise(_SMALL_WH, 1)
    sources = [MemoryCamera(images, 10.0, _together(gate)) for _ in range(cameras)]
    batches, socket, engine = BatchTap(), SocketTap(), EngineDouble(infer_s=0.01)
    results: List[FrameResult] = []
    plain_loop = PlainLoop(broker_port, EngineDouble(infer_s=0.01))
    in_plain_loop: List[int] = []
    # Long enough that every batch is full, and leaves for that.
    sections = {"batching": {"target": cameras, "max_wait_ms": 80}}
    with ExitStack() as stack:
        batches.install(stack)
        socket.install(stack)
        stack.enter_context(Daemon(sources, engine, broker_port, results.append, sections))
        end_ns = time.monotonic_ns() + int(seconds * NS_PER_S)
        while time.monotonic_ns() < end_ns:
            socket.await_more(cameras)
            in_plain_loop += plain_loop.run(batches.batches[-1])
    plain_loop.close()
    return CloseToPublish(_close_to_sent(results, engine, socket), in_plain_loop)


def _close_to_sent(
    results: List[FrameResult], engine: EngineDouble, socket: SocketTap
) -> List[int]:
    sent_ns = socket.sent_ns()
    done_ns = [done for done, _ in engine.calls]
    durations: List[int] = []
    for result in results:
        frame = (result.info.camera, result.info.frame_id)
        if frame in sent_ns:
            # The last call that ended before the pipeline looked at the clock.
            call = engine.calls[bisect_right(done_ns, result.inferred_ns) - 1]
            durations.append(sent_ns[frame] - result.closed_ns - call[1])
    return durations


class SocketTap:
    """Notes when the daemon has handed each detections payload to the socket."""

    def __init__(self) -> None:
        self._unsent: List[bytes] = []
        self._sent: List[Tuple[int, bytes]] = []
        self._grew = threading.Condition()

    def install(self, stack: ExitStack) -> None:
        """Stays until the stack is closed."""
        publish_itself: Callable[..., Any] = Client.publish
        write_itself: Callable[..., Any] = Client.loop_write

        def publish(client: Client, topic: str, payload: bytes, *rest: Any) -> Any:
            if topic.endswith("/detections"):
                self._unsent.append(payload)
            return publish_itself(client, topic, payload, *rest)

        def loop_write(client: Client, *rest: Any) -> Any:
            result = write_itself(client, *rest)
            if self._unsent and not client.want_write():
                self._note(time.monotonic_ns())
            return result

        stack.enter_context(patch.object(Client, "publish", publish))
        stack.enter_context(patch.object(Client, "loop_write", loop_write))

    def _note(self, now_ns: int) -> None:
        with self._grew:
            self._sent += [(now_ns, payload) for payload in self._unsent]
            self._unsent.clear()
            self._grew.notify_all()

    def await_more(self, count: int) -> None:
        """Waits until so many more payloads have been sent than by now."""
        with self._grew:
            target = len(self._sent) + count
            self._grew.wait_for(lambda: len(self._sent) >= target, _PATIENCE_S)

    def sent_ns(self) -> Dict[Tuple[str, int], int]:
        """When each frame's payload was sent, by camera and frame id."""
        sent: Dict[Tuple[str, int], int] = {}
        for moment_ns, payload in self._sent:
            message = json.loads(payload)
            sent[message["camera"], message["frame_id"]] = moment_ns
        return sent


class PlainLoop:
    """Infers, filters, serializes and sends, one step after another on the calling thread."""

    def __init__(self, broker_port: int, engine: EngineDouble) -> None:
        self._engine = engine
        self._clock = SystemClock()
        self._model = ServedModel("detector", "fp32", tuple(map(str, range(80))))
        self._postprocessor = Postprocessor(PostprocessConfig(), self._model.class_names)
        slot = SlotRing(1, 1, MODEL_WH).acquire()
        assert slot is not None
        self._slot = slot
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="plain-loop")
        self._client.connect("127.0.0.1", broker_port, keepalive=600)
        while not self._client.is_connected():
            self._client.loop(0.1)

    def run(self, batch: Batch) -> List[int]:
        """Nanoseconds of each frame of a batch, less inference."""
        start_ns = self._clock.monotonic_ns()
        candidates = self._engine.infer(batch.frames)
        inferred_ns = self._clock.monotonic_ns()
        result = BatchResult(batch, candidates, start_ns, inferred_ns, inferred_ns - start_ns)
        took_ns: List[int] = []
        for seq, frame in enumerate(self._postprocessor.process(result, self._clock)):
            self._send(frame, seq)
            # What came before inference is no time at all here.
            took_ns.append(self._clock.monotonic_ns() - inferred_ns)
        return took_ns

    def letterbox_and_run(self, image: Image) -> None:
        """The road of a single frame."""
        now_ns = self._clock.monotonic_ns()
        height, width = image.shape[:2]
        letterbox = Letterbox.fit((width, height), MODEL_WH)
        self._slot.draw(0, image, letterbox)
        info = FrameInfo(
            "cam0", 0, (width, height), now_ns, self._clock.unix_ms(), TimestampSource.RECEIVE
        )
        self.run(Batch(1, self._slot, (BatchItem(info, letterbox),), now_ns, now_ns))

    def close(self) -> None:
        """Leaves the broker."""
        self._client.disconnect()

    def _send(self, frame: FrameResult, seq: int) -> None:
        header = Header("benchmark", 1, seq, self._clock.unix_ms())
        payload = detections_payload(frame, header, self._model, is_clock_synced=True)
        # Without a thread of its own paho writes to the socket before it returns.
        self._client.publish(f"edge/benchmark/plain/{frame.info.camera}", payload.to_json())
