"""ONNX Runtime's CUDA provider on the host: the real library computes, when the stream gets there.

Options, errors and numbers are those of the installed ONNX Runtime, signatures are checked against
it. What a GPU would not forgive is kept in `faults`: memory that is used twice at once, a run on
another stream than its session's, a session that goes before its work or after its stream.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest

from edge.building import onnxruntime_toolchain
from edge.inference import device, onnxruntime_cuda
from edge.inference.cuda import Context
from tests.inference.host_cuda import HostCuda

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
REAL: Any = importlib.import_module("onnxruntime")
ITEM_BYTES = {np.uint8: 1, np.float32: 4}

Place = Tuple[int, Tuple[int, ...], Any]


class World:
    """What a test decides, and what the provider saw."""

    __name__ = "onnxruntime"
    __version__ = REAL.__version__
    SessionOptions = REAL.SessionOptions
    RunOptions = REAL.RunOptions

    def __init__(self, host: HostCuda) -> None:
        self.host = host
        self.offered = [CUDA, CPU]
        self.missing = ""  # the library that the provider does not find
        self.on_cpu: List[str] = []  # operators that the provider does not have
        self.load_error: Optional[Exception] = None
        self.run_error: Optional[Exception] = None
        self.fits = 1 << 30  # rows
        self.provider_options: List[Dict[str, str]] = []
        self.options: List[Any] = []
        self.rows: List[int] = []
        self.bound: Dict[int, int] = {}
        self.sessions = 0
        self.untidied: Dict[int, int] = {}  # stream -> runs since one waited
        self.faults: List[str] = []

    def get_available_providers(self) -> List[str]:
        return self.offered

    def preload_dlls(self) -> None:
        if self.missing:
            lines = f"Failed to load {self.missing}: cannot open shared object file\nPlease read on"
            sys.stdout.write(lines)

    def InferenceSession(self, model: bytes, options: Any, **given: Any) -> Session:
        inspect.signature(REAL.InferenceSession).bind(model, options, **given)
        (name, provider_options), rest = given["providers"][0], given["providers"][1:]
        assert (name, rest) == (CUDA, [CPU])
        self.host.require_current("InferenceSession")
        if self.load_error is not None:
            raise self.load_error
        self.provider_options.append(provider_options)
        self.options.append(options)
        return Session(self, model, options, provider_options)


class Session:
    """A session of the provider; its work is done by the CPU's, later."""

    def __init__(
        self, world: World, model: bytes, options: Any, provider_options: Dict[str, str]
    ) -> None:
        self._world = world
        self._is_on_cpu = bool(world.missing)
        self._session = REAL.InferenceSession(model, options, providers=[CPU])
        self.stream = int(provider_options.get("user_compute_stream", "0"))
        world.sessions += not self._is_on_cpu

    def __del__(self) -> None:
        if self._is_on_cpu or not hasattr(self, "stream"):
            return  # nothing of it is on the GPU
        world, stream = self._world, self.stream
        world.sessions -= 1
        if stream and (stream not in world.host.queues or world.host.queues[stream]):
            world.faults.append("a session went before its work, or after its stream")
        if world.untidied.get(stream):
            world.faults.append("a session went with pinned memory to free in a callback")
        if world.host.stack == 0:
            world.faults.append("a session went where no context is current")

    def get_providers(self) -> List[str]:
        return [CPU] if self._is_on_cpu else [CUDA, CPU]

    def get_provider_graph_assignment_info(self) -> List[Any]:
        return [Part(CUDA, ["Conv", "Shape"]), Part(CPU, self._world.on_cpu)]

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, run_options: Any) -> None:
        world, host = self._world, self._world.host
        frames, detections = binding.inputs["frames"], binding.outputs["detections"]
        rows = frames[1][0]
        world.rows.append(rows)
        if detections[0] in world.bound:
            world.faults.append("an address is bound while it is in flight")
        world.bound[detections[0]] = rows
        if world.run_error is not None or rows > world.fits:
            # A part of it is queued already.
            host.enqueue(self.stream, lambda: self._scribble(detections))
            raise world.run_error or RuntimeError("Failed to allocate memory for requested buffer")
        host.enqueue(self.stream, lambda: self._compute(frames, detections))
        self._end_run(run_options)

    def run(self, names: None, feed: Dict[str, Any], run_options: Any) -> List[Any]:
        inspect.signature(REAL.InferenceSession.run).bind(self, names, feed, run_options)
        found: List[Any] = self._session.run(names, feed)
        self._end_run(run_options)
        return found

    def _end_run(self, run_options: Any) -> None:
        untidied = self._world.untidied
        untidied[self.stream] = untidied.get(self.stream, 0) + 1
        if not is_asynchronous(run_options):
            self._world.host._flush(self.stream)
            untidied[self.stream] = 0

    def _compute(self, frames: Place, detections: Place) -> None:
        given = view(self._world.host, frames)
        found = self._session.run(None, {"frames": given})[0]
        view(self._world.host, detections)[...] = found
        del self._world.bound[detections[0]]

    def _scribble(self, detections: Place) -> None:
        view(self._world.host, detections)[...] = 99
        del self._world.bound[detections[0]]


class Part:
    """Operators of one provider."""

    def __init__(self, ep_name: str, kinds: List[str]) -> None:
        self.ep_name = ep_name
        self._kinds = kinds

    def get_nodes(self) -> List[Any]:
        return [type("Node", (), {"op_type": kind})() for kind in self._kinds]


class Binding:
    """Where a session's input and output lie."""

    def __init__(self) -> None:
        self.inputs: Dict[str, Place] = {}
        self.outputs: Dict[str, Place] = {}

    def bind_input(self, *given: Any) -> None:
        self._bind(self.inputs, REAL.IOBinding.bind_input, given)

    def bind_output(self, *given: Any) -> None:
        self._bind(self.outputs, REAL.IOBinding.bind_output, given)

    def _bind(self, places: Dict[str, Place], real: Any, given: Tuple[Any, ...]) -> None:
        named = inspect.signature(real).bind(self, *given).arguments
        assert (named["device_type"], named["device_id"]) == ("cuda", 0)
        places[named["name"]] = (named["buffer_ptr"], named["shape"], named["element_type"])


def is_asynchronous(run_options: Any) -> bool:
    try:
        entry = run_options.get_run_config_entry("disable_synchronize_execution_providers")
    except RuntimeError:  # the real library's, of what was not set
        return False
    return bool(entry == "1")


def view(host: HostCuda, place: Place) -> Any:
    pointer, shape, kind = place
    nbytes = int(np.prod(shape)) * ITEM_BYTES[kind]
    return host.bytes_at(pointer, nbytes).view(kind).reshape(shape)


@contextmanager
def cuda_provider(host: Optional[HostCuda] = None) -> Iterator[Tuple[World, Context]]:
    """A machine with the provider; at the end nothing is left on it and no rule was broken."""
    world = World(host or HostCuda(is_integrated=False))
    with ExitStack() as made:
        patch = made.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(onnxruntime_cuda, "import_onnxruntime", lambda: world)
        patch.setattr(device, "_TRIALS", 1)
        context = made.enter_context(world.host.context())
        patch.setattr(onnxruntime_toolchain, "Context", lambda: context)
        patch.setattr(onnxruntime_toolchain, "find_spec", lambda name: name)
        yield world, context
        assert world.sessions == 0, "a session is left"
    assert not world.faults, world.faults
