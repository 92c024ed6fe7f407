"""Makes what this program derives from TensorRT's classes, with the real binding and no TensorRT.

    python -m tests.inference.tensorrt_api.subclasses TENSORRT_SO VERSION

For a process of its own, with the stubs of `take` where libraries are looked for. Prints `good`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any, List

import numpy as np

from edge.building.tensorrt_calibrator import CalibrationFeeder, as_calibrator, has_calibrators
from edge.building.tensorrt_progress import BuildMeter, as_monitor
from edge.config.schema import CalibrationMethod, Precision
from edge.inference.tensorrt_log import TensorRtLog, as_logger
from edge.records import BuildProgress


def load(path: str, version: str) -> Any:
    """The binding at `path`."""
    sys.setdlopenflags(os.RTLD_LAZY)
    spec = importlib.util.spec_from_file_location("tensorrt", path)
    assert spec is not None
    assert spec.loader is not None
    trt: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trt)
    trt.__version__ = version
    return trt


def try_logger(trt: Any) -> None:
    heard = TensorRtLog()
    as_logger(trt, heard).log(trt.ILogger.Severity.ERROR, "it broke")
    assert heard.reason == "it broke"


def try_monitor(trt: Any) -> None:
    told: List[BuildProgress] = []
    monitor = as_monitor(trt, BuildMeter(Precision.FP16, told.append))
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True
    monitor.phase_finish("build")
    assert [progress.done for progress in told] == [0.5]


def try_calibrator(trt: Any, method: CalibrationMethod) -> None:
    batch = np.zeros((2, 3, 4, 4), np.float32)
    feeder = CalibrationFeeder(iter([batch]), lambda _: 1 << 40, lambda _: None)
    calibrator = as_calibrator(trt, method, len(batch), feeder)
    assert calibrator.get_batch_size() == 2
    assert calibrator.read_calibration_cache() is None
    assert calibrator.get_batch(["images"]) == [1 << 40]
    assert calibrator.get_batch(["images"]) is None
    calibrator.write_calibration_cache(memoryview(b"scales"))
    assert calibrator.read_calibration_cache() == b"scales"
    assert calibrator.get_algorithm().name.lower().startswith(method.value)


def main(path: str, version: str) -> None:
    """Tries all that this version has."""
    trt = load(path, version)
    try_logger(trt)
    if hasattr(trt, "IProgressMonitor"):
        try_monitor(trt)
    if has_calibrators(trt):
        for method in CalibrationMethod:
            try_calibrator(trt, method)
    # How an operator that TensorRT does not know is told from other faults.
    assert "UNSUPPORTED" in str(trt.ErrorCode.UNSUPPORTED_NODE)
    sys.stdout.write("good\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
