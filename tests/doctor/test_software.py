"""The matrix of libraries: every trap by name, and what is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Tuple

import pytest

from edge.doctor.finding import Finding, Verdict
from edge.doctor.libraries import NAMES, Library
from edge.doctor.software import Setting, judge_software

APT = "/usr/lib/python3.8/dist-packages"
MISSING: Dict[str, Any] = {"trouble": "No module named", "is_missing": True}
GOOD: Dict[str, Library] = {
    "numpy": Library("numpy", "1.23.5"),
    "cv2": Library("cv2", "4.5.4", APT, gstreamer="YES (1.16.3)", nvidia_elements=True),
    "tensorrt": Library("tensorrt", "8.5.2.2", f"{APT}/tensorrt/__init__.py"),
    "pycuda.driver": Library("pycuda.driver", "2024.1"),
    "onnxruntime": Library("onnxruntime", "1.19.2"),
    "cuda": Library("cuda", "11.4", "Xavier", capability=(7, 2)),
}
NX = Setting(True, (3, 8), (35, 4))
LAPTOP = Setting(False, (3, 13))
ORIN = Setting(True, (3, 10), (36, 4))
THOR = Setting(True, (3, 12), (38, 4))

Row = Tuple[Setting, Dict[str, Dict[str, Any]], str, str, str]
ROWS: Dict[str, Row] = {
    "Python fits": (NX, {}, "Python", "ok", "3.8"),
    "another Python than JetPack's": (
        replace(NX, python=(3, 10)), {}, "Python", "warning", "are for 3.8",
    ),
    "any Python elsewhere": (LAPTOP, {}, "Python", "ok", "3.13"),
    "numpy before 1.24": (NX, {}, "numpy", "ok", "1.23.5"),
    "numpy 1.24 with TensorRT 8.5": (
        NX, {"numpy": {"version": "1.24.0"}}, "numpy", "warning", "pip install numpy==1.23.5",
    ),
    "numpy 1.24 with TensorRT 8.6": (
        NX, {"numpy": {"version": "1.24.0"}, "tensorrt": {"version": "8.6.2"}}, "numpy", "ok", "",
    ),
    "numpy 1.24 without TensorRT": (
        LAPTOP, {"numpy": {"version": "1.24.0"}, "tensorrt": MISSING}, "numpy", "ok", "",
    ),
    "no numpy": (NX, {"numpy": MISSING}, "numpy", "fault", "not installed; pip install numpy"),
    "JetPack's OpenCV": (NX, {}, "OpenCV", "ok", f"4.5.4 in {APT}"),
    "no OpenCV on a Jetson": (NX, {"cv2": MISSING}, "OpenCV", "fault", "apt install python3"),
    "no OpenCV elsewhere": (LAPTOP, {"cv2": MISSING}, "OpenCV", "fault", "pip install opencv"),
    "OpenCV of another numpy": (
        NX, {"cv2": {"trouble": "numpy.core.multiarray failed to import"}},
        "OpenCV", "fault", 'pip install "numpy<2"',
    ),
    "static TLS": (
        NX,
        {"cv2": {"trouble": "/usr/lib/libgomp.so.1: cannot allocate memory in static TLS block"}},
        "OpenCV", "fault", "LD_PRELOAD=/usr/lib/libgomp.so.1 (",
    ),
    "OpenCV crashes": (
        NX, {"cv2": {"trouble": "crashes when it is loaded"}}, "OpenCV", "fault", "crashes",
    ),
    "GStreamer": (NX, {}, "GStreamer", "ok", "YES (1.16.3) in OpenCV with NVIDIA's elements"),
    "pip's OpenCV hides JetPack's": (
        NX, {"cv2": {"gstreamer": "NO"}}, "GStreamer", "warning", "pip uninstall opencv-python ",
    ),
    "and a CSI camera needs it": (
        replace(NX, needs_gstreamer=True), {"cv2": {"gstreamer": "NO"}},
        "GStreamer", "fault", "csi://",
    ),
    "no GStreamer elsewhere": (
        LAPTOP, {"cv2": {"gstreamer": "NO"}}, "GStreamer", "not here", "do without",
    ),
    "no NVIDIA elements": (
        NX, {"cv2": {"nvidia_elements": False}}, "GStreamer", "warning", "--runtime nvidia",
    ),
    "none elsewhere": (
        LAPTOP, {"cv2": {"nvidia_elements": False}}, "GStreamer", "ok", "YES (1.16.3) in OpenCV",
    ),
    "OpenCV first": (NX, {"cv2": MISSING}, "GStreamer", "not here", "OpenCV must be mended"),
    "JetPack's TensorRT": (NX, {}, "TensorRT", "ok", "8.5.2.2"),
    "another TensorRT than JetPack's": (
        ORIN, {"tensorrt": {"version": "10.7.0"}, "cuda": {"capability": (8, 7)}},
        "TensorRT", "ok", "where this JetPack brings 10.3",
    ),
    "no TensorRT on a Jetson": (
        NX, {"tensorrt": MISSING}, "TensorRT", "fault", "apt install python3-libnvinfer",
    ),
    "a Jetson told to do without": (
        replace(NX, backend="onnxruntime"), {"tensorrt": MISSING}, "TensorRT", "not here", "",
    ),
    "no TensorRT elsewhere": (LAPTOP, {"tensorrt": MISSING}, "TensorRT", "not here", "ONNX R"),
    "none elsewhere, and asked for": (
        replace(LAPTOP, backend="tensorrt"), {"tensorrt": MISSING}, "TensorRT", "fault", "",
    ),
    "TensorRT before 8.5": (
        NX, {"tensorrt": {"version": "8.4.1"}}, "TensorRT", "fault", "8.5 is the oldest",
    ),
    "the last TensorRT for Xavier's GPU": (
        NX, {"tensorrt": {"version": "10.4.0"}}, "TensorRT", "ok", "10.4.0",
    ),
    "TensorRT without Volta": (
        NX, {"tensorrt": {"version": "10.5.0"}}, "TensorRT", "fault", "knows no Xavier",
    ),
    "TensorRT without Volta on Orin": (
        ORIN, {"tensorrt": {"version": "10.5.0"}, "cuda": {"capability": (8, 7)}},
        "TensorRT", "ok", "10.5.0",
    ),
    "pip's TensorRT": (
        NX, {"tensorrt": {"place": "/opt/edge/lib/python3.8/site-packages/tensorrt/__init__.py"}},
        "TensorRT", "warning", "pip uninstall tensorrt",
    ),
    "pip's TensorRT on Thor": (
        THOR,
        {"tensorrt": {"version": "10.13.3", "place": "/site-packages/t"},
         "cuda": {"capability": (11, 0)}},
        "TensorRT", "ok", "10.13.3",
    ),
    "TensorRT 10.16": (
        THOR, {"tensorrt": {"version": "10.16.2"}, "cuda": {"capability": (11, 0)}},
        "TensorRT", "ok", "",
    ),
    "TensorRT 11": (
        THOR, {"tensorrt": {"version": "11.4.1"}, "cuda": {"capability": (11, 0)}},
        "TensorRT", "warning", "calibrates no more",
    ),
    "TensorRT without its driver": (
        NX, {"tensorrt": {"trouble": "libnvinfer.so.8: cannot open shared object file"}},
        "TensorRT", "fault", "--runtime nvidia",
    ),
    "pycuda": (NX, {}, "pycuda", "ok", "2024.1"),
    "pycuda that Python 3.8 cannot run": (
        NX, {"pycuda.driver": {"version": "2026.1"}}, "pycuda", "fault", "pycuda==2024.1",
    ),
    "the same on Python 3.10": (
        ORIN, {"pycuda.driver": {"version": "2026.1"}}, "pycuda", "ok", "2026.1",
    ),
    "no pycuda beside TensorRT": (NX, {"pycuda.driver": MISSING}, "pycuda", "fault", "not inst"),
    "no pycuda and no TensorRT": (
        LAPTOP, {"pycuda.driver": MISSING, "tensorrt": MISSING}, "pycuda", "not here", "",
    ),
    "a GPU": (NX, {}, "GPU", "ok", "Xavier, compute capability 7.2, driver for CUDA 11.4"),
    "a Jetson's cannot be opened": (
        NX, {"cuda": {"trouble": "cuInit failed: CUDA_ERROR_NO_DEVICE"}}, "GPU", "fault", "usermod",
    ),
    "no driver elsewhere": (
        LAPTOP, {"cuda": {"trouble": "libcuda.so.1: cannot open"}}, "GPU", "not here", "CPU",
    ),
    "no card elsewhere": (
        LAPTOP, {"cuda": {"trouble": "CUDA_ERROR_NO_DEVICE"}}, "GPU", "not here", "CPU",
    ),
    "a driver of another kernel": (
        LAPTOP, {"cuda": {"trouble": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}}, "GPU", "warning", "",
    ),
    "ONNX Runtime": (LAPTOP, {}, "ONNX Runtime", "ok", "1.19.2 on the CPU"),
    "ONNX Runtime with CUDA": (
        LAPTOP, {"onnxruntime": {"providers": ("CUDAExecutionProvider",)}},
        "ONNX Runtime", "ok", "with CUDA",
    ),
    "ONNX Runtime is broken": (
        LAPTOP, {"onnxruntime": {"trouble": "bad"}}, "ONNX Runtime", "fault", "bad",
    ),
    "no ONNX Runtime": (NX, {"onnxruntime": MISSING}, "ONNX Runtime", "not here", ""),
    "runs on TensorRT": (NX, {}, "network", "ok", "TensorRT runs it"),
    "runs on ONNX Runtime": (LAPTOP, {"tensorrt": MISSING}, "network", "ok", "ONNX Runtime"),
    "told to": (replace(NX, backend="onnxruntime"), {}, "network", "ok", "ONNX Runtime runs it"),
    "told to, and is not there": (
        replace(NX, backend="onnxruntime"), {"onnxruntime": MISSING}, "network", "fault", "",
    ),
    "told to use TensorRT without pycuda": (
        replace(NX, backend="tensorrt"), {"pycuda.driver": MISSING}, "network", "fault", "",
    ),
    "nothing runs": (
        LAPTOP, {"tensorrt": MISSING, "onnxruntime": MISSING}, "network", "fault", "nothing here",
    ),
}  # fmt: skip


def judged(setting: Setting, changes: Dict[str, Dict[str, Any]]) -> Dict[str, Finding]:
    libraries = {name: replace(GOOD[name], **changes.get(name, {})) for name in NAMES}
    return {finding.subject: finding for finding in judge_software(libraries, setting)}


@pytest.mark.parametrize(
    ("setting", "changes", "subject", "verdict", "said"), ROWS.values(), ids=ROWS
)
def test_row(
    setting: Setting, changes: Dict[str, Dict[str, Any]], subject: str, verdict: str, said: str
) -> None:
    finding = judged(setting, changes)[subject]
    assert finding.verdict.value == verdict
    assert said in f"{finding.words}; {finding.fix}"
    assert bool(finding.fix) == (finding.verdict in (Verdict.FAULT, Verdict.WARNING))


def test_a_good_jetson_has_nothing_to_mend() -> None:
    assert {finding.verdict for finding in judged(NX, {}).values()} == {Verdict.OK}
    assert len(judged(NX, {})) == 9
