"""Rules: Python, and the libraries that must fit each other and JetPack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

from edge.doctor.finding import Finding, absent, fault, ok, warning
from edge.doctor.import_client import CUDA
from edge.doctor.libraries import Libraries, Library

# The Python that JetPack's TensorRT and OpenCV are built for, by L4T's major number.
_PYTHONS = {35: (3, 8), 36: (3, 10), 38: (3, 12), 39: (3, 12)}
# Its TensorRT, by L4T's major and at least this minor number, the newest first.
_TENSORRTS = (
    ((39, 0), "10.16"),
    ((38, 0), "10.13"),
    ((36, 4), "10.3"),
    ((36, 0), "8.6"),
    ((35, 0), "8.5"),
)
_OLDEST_TENSORRT = (8, 5)
_FIRST_WITHOUT_VOLTA = (10, 5)
_FIRST_WITHOUT_CALIBRATION = (11, 0)
_VOLTA = (7, 2)
# numpy dropped names that TensorRT 8.5 says while it works.
_FIRST_NUMPY_WITHOUT_BOOL = (1, 24)
_FIRST_PYCUDA_FOR_PYTHON_3_10 = 2026

_SYSTEM_PACKAGES = "a virtual environment sees it with --system-site-packages"
_HIDDEN_OPENCV = "pip uninstall opencv-python opencv-python-headless; sudo apt install {}".format(
    f"python3-opencv ({_SYSTEM_PACKAGES})"
)


@dataclass(frozen=True)
class Setting:
    """Where the libraries are to work; `l4t` is zeros elsewhere than on a Jetson.

    `backend` is the configuration's, None where the machine decides; `needs_gstreamer`: one of its
    cameras does not do without.
    """

    is_jetson: bool
    python: Tuple[int, int]
    l4t: Tuple[int, int] = (0, 0)
    backend: Optional[str] = None
    needs_gstreamer: bool = False

    @property
    def is_for_tensorrt(self) -> bool:
        """Whether the network is to run on TensorRT."""
        return self.backend == "tensorrt" or (self.backend is None and self.is_jetson)


def judge_software(libraries: Libraries, setting: Setting) -> Iterator[Finding]:
    """One finding for each library, then what is left to run the network with."""
    yield _python(setting)
    yield _numpy(libraries["numpy"], libraries["tensorrt"])
    yield _opencv(libraries["cv2"], setting)
    yield _gstreamer(libraries["cv2"], setting)
    yield _tensorrt(libraries["tensorrt"], libraries[CUDA], setting)
    yield _pycuda(libraries["pycuda.driver"], libraries["tensorrt"], setting)
    yield _driver(libraries[CUDA], setting)
    yield _onnxruntime(libraries["onnxruntime"])
    yield _backend(libraries, setting)


def _python(setting: Setting) -> Finding:
    here, wanted = _dotted(setting.python), _PYTHONS.get(setting.l4t[0])
    if wanted is None or wanted == setting.python:
        return ok("Python", here)
    return warning(
        "Python",
        f"{here}: this JetPack's TensorRT and OpenCV are for {_dotted(wanted)}",
        f"python{_dotted(wanted)} -m venv --system-site-packages /opt/edge",
    )


def _numpy(numpy: Library, tensorrt: Library) -> Finding:
    if not numpy.works:
        return _broken("numpy", numpy, "pip install numpy")
    is_old = tensorrt.works and tensorrt.release == _OLDEST_TENSORRT
    if is_old and numpy.release >= _FIRST_NUMPY_WITHOUT_BOOL:
        return warning(
            "numpy",
            f"{numpy.version} has no np.bool, which TensorRT {tensorrt.version} asks for",
            "pip install numpy==1.23.5",
        )
    return ok("numpy", numpy.version)


def _opencv(opencv: Library, setting: Setting) -> Finding:
    if opencv.works:
        return ok("OpenCV", f"{opencv.version} in {opencv.place}")
    install = f"sudo apt install python3-opencv ({_SYSTEM_PACKAGES})"
    fix = install if setting.is_jetson else "pip install opencv-python-headless"
    return _broken("OpenCV", opencv, fix)


def _gstreamer(opencv: Library, setting: Setting) -> Finding:
    if not opencv.works:
        return absent("GStreamer", "OpenCV must be mended first")
    if opencv.gstreamer.startswith("YES"):
        return _elements(opencv, setting)
    words = "not in this OpenCV"
    if setting.needs_gstreamer:
        return fault(
            "GStreamer", f"{words}, and a csi:// or gstreamer: camera needs it", _HIDDEN_OPENCV
        )
    if setting.is_jetson:
        words += ": no CSI camera, and every stream is decoded by the CPU"
        return warning("GStreamer", words, _HIDDEN_OPENCV)
    return absent("GStreamer", f"{words}, as ever with pip's: files, USB and RTSP do without")


def _elements(opencv: Library, setting: Setting) -> Finding:
    if opencv.nvidia_elements or not (setting.is_jetson or setting.needs_gstreamer):
        with_it = " with NVIDIA's elements" if opencv.nvidia_elements else ""
        return ok("GStreamer", f"{opencv.gstreamer} in OpenCV{with_it}")
    return warning(
        "GStreamer",
        "NVIDIA's element nvvidconv is not there: no CSI camera, and the CPU decodes",
        "sudo apt install nvidia-l4t-gstreamer (docker run: --runtime nvidia, and "
        "NVIDIA_DRIVER_CAPABILITIES=all); then: rm -r ~/.cache/gstreamer-1.0",
    )


def _tensorrt(tensorrt: Library, cuda: Library, setting: Setting) -> Finding:
    if tensorrt.is_missing and not setting.is_for_tensorrt:
        return absent("TensorRT", "not installed: ONNX Runtime runs the network")
    if not tensorrt.works:
        fix = f"sudo apt install python3-libnvinfer ({_SYSTEM_PACKAGES})"
        return _broken("TensorRT", tensorrt, fix)
    return _unfit_tensorrt(tensorrt, cuda, setting) or ok(
        "TensorRT", f"{tensorrt.version}{_of_jetpack(tensorrt, setting)}"
    )


def _unfit_tensorrt(tensorrt: Library, cuda: Library, setting: Setting) -> Optional[Finding]:
    name, release = f"{tensorrt.version} ", tensorrt.release
    if release < _OLDEST_TENSORRT:
        return fault("TensorRT", name + "is too old: 8.5 is the oldest", "flash JetPack 5.1")
    if release >= _FIRST_WITHOUT_VOLTA and cuda.capability == _VOLTA:
        return fault(
            "TensorRT",
            name + "knows no Xavier any more",
            "install JetPack's own: 8.5.2 is its last",
        )
    if setting.is_jetson and "site-packages" in tensorrt.place and setting.l4t[0] < 38:
        return warning(
            "TensorRT",
            f"{name}in {tensorrt.place} is pip's, which is for servers",
            "pip uninstall tensorrt; sudo apt install python3-libnvinfer",
        )
    if release >= _FIRST_WITHOUT_CALIBRATION:
        return warning("TensorRT", name + "calibrates no more: no INT8 engine", "use 8.5 to 10.x")
    return None


def _of_jetpack(tensorrt: Library, setting: Setting) -> str:
    own = next((own for least, own in _TENSORRTS if setting.l4t >= least), None)
    if own is None or own == _dotted(tensorrt.release):
        return ""
    return f", where this JetPack brings {own}"


def _pycuda(pycuda: Library, tensorrt: Library, setting: Setting) -> Finding:
    if pycuda.is_missing and not tensorrt.works:
        return absent("pycuda", "not installed: only a GPU needs it")
    if not pycuda.works:
        fix = "pip install pycuda==2024.1 (it is built: nvcc must be on the PATH)"
        return _broken("pycuda", pycuda, fix)
    if pycuda.release[0] >= _FIRST_PYCUDA_FOR_PYTHON_3_10 and setting.python < (3, 10):
        words = f"{pycuda.version} fails on Python {_dotted(setting.python)} while it works"
        return fault("pycuda", words, "pip install pycuda==2024.1")
    return ok("pycuda", pycuda.version)


def _driver(cuda: Library, setting: Setting) -> Finding:
    if cuda.works:
        major, minor = cuda.capability or (0, 0)
        words = f"{cuda.place}, compute capability {major}.{minor}, driver for CUDA {cuda.version}"
        return ok("GPU", words)
    if setting.is_jetson:
        return _broken("GPU", cuda, "docker run: --runtime nvidia; else: usermod -aG video,render")
    is_none = "libcuda.so.1" in cuda.trouble or "NO_DEVICE" in cuda.trouble
    if is_none:
        return absent("GPU", "no NVIDIA GPU or no driver: the CPU runs the network")
    return warning("GPU", cuda.trouble, "see `nvidia-smi`; reinstall the driver, and restart")


def _onnxruntime(onnxruntime: Library) -> Finding:
    if onnxruntime.is_missing:
        return absent("ONNX Runtime", "not installed")
    if not onnxruntime.works:
        return _broken("ONNX Runtime", onnxruntime, "pip install onnxruntime")
    has_cuda = "CUDAExecutionProvider" in onnxruntime.providers
    return ok("ONNX Runtime", f"{onnxruntime.version}{' with CUDA' if has_cuda else ' on the CPU'}")


def _backend(libraries: Libraries, setting: Setting) -> Finding:
    has_tensorrt = all(libraries[name].works for name in ("tensorrt", "pycuda.driver", CUDA))
    if has_tensorrt and setting.backend != "onnxruntime":
        return ok("network", "TensorRT runs it")
    if libraries["onnxruntime"].works and setting.backend != "tensorrt":
        return ok("network", "ONNX Runtime runs it")
    return fault(
        "network",
        "nothing here can run it",
        "mend TensorRT, pycuda or GPU above, or: pip install onnxruntime",
    )


# What loaders complain of, and what helps.
_CURES: Tuple[Tuple[str, str], ...] = (
    (
        r"(\S+): cannot allocate memory in static TLS block",
        "start with LD_PRELOAD={0} (systemd: Environment=LD_PRELOAD={0})",
    ),
    (
        r"numpy\.core\.multiarray|_ARRAY_API|NumPy 1\.x",
        'it was built for numpy 1: pip install "numpy<2"',
    ),
    (r"np\.bool|attribute 'bool'", "pip install numpy==1.23.5"),
    (
        r"libcuda\.so|libnvinfer|libnv\w+\.so",
        "docker run: --runtime nvidia; else JetPack's packages",
    ),
)


def _broken(subject: str, library: Library, fix: str) -> Finding:
    """A library that is needed and cannot be loaded."""
    if library.is_missing:
        return fault(subject, "not installed", fix)
    for pattern, cure in _CURES:
        found = re.search(pattern, library.trouble)
        if found is not None:
            return fault(subject, library.trouble, cure.format(*found.groups()))
    return fault(subject, library.trouble, fix)


def _dotted(release: Tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
