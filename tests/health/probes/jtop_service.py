"""A service of jetson-stats without a Jetson: the package's own protocol, made-up readings.

`python -m tests.health.probes.jtop_service SOCKET [--version V] [--frozen-after N] [--mute]
[--key K] [--protocol N]`

The manager, its socket, its key and its three shared objects are those of the installed package; so
the package's own client connects to it as it does on a module. What is said has the shape that the
package's services give it.
"""

from __future__ import annotations

import argparse
import multiprocessing.connection
import pickle
import queue
import threading
from importlib import import_module, metadata
from typing import Any, Dict

_MB = 1024  # kB


def main() -> None:
    """Serves until it is killed."""
    options = parse()
    package: Any = import_module("jtop.service")
    package.JTOP_PIPE = options.socket
    if options.unreadable:
        # What a Python says that pickles in a way the other does not know.
        multiprocessing.connection._ForkingPickler = Foreign  # type: ignore[attr-defined]
    service = Service(options)
    manager = package.JtopManager
    manager.register("get_queue", callable=lambda: service.queue)
    manager.register("sync_data", callable=lambda: service.data)
    manager.register("sync_event", callable=lambda: service.event)
    made = manager(authkey=options.key.encode()) if options.key else manager()
    threading.Thread(target=service.run, daemon=True).start()
    made.get_server().serve_forever()


class Foreign:
    """Pickles with a protocol that no Python has yet."""

    loads = pickle.loads

    @staticmethod
    def dumps(thing: Any) -> bytes:
        return b"\x80\x7f" + pickle.dumps(thing)[2:]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("--version", default=metadata.version("jetson-stats"))
    parser.add_argument("--frozen-after", type=int, default=1_000_000)
    parser.add_argument("--key", default="")
    parser.add_argument("--mute", action="store_true")
    parser.add_argument("--unreadable", action="store_true")
    return parser.parse_args()


class Service:
    """What the real one does with control messages, as far as a reader sends them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.queue: queue.Queue[Dict[str, Any]] = queue.Queue()
        self.data: Dict[str, Any] = {}
        self.event = threading.Event()
        self._readings = 0
        self._is_reading = False
        self._pause = threading.Event()  # which nobody sets

    def run(self) -> None:
        """Answers greetings; what else a reader sends is only to say that it is there."""
        while not self._options.mute:
            control = self.queue.get()
            if "init" in control:
                self.queue.put(control)  # it is for the client
                self._pause.wait(0.01)
            elif "interval" in control:
                self._read()
                if not self._is_reading:
                    self._is_reading = True
                    threading.Thread(target=self._keep_reading, args=(control["interval"],)).start()
                self.queue.put({"init": self._greeting(control["interval"])})

    def _keep_reading(self, interval_s: float) -> None:
        while not self._pause.wait(interval_s):
            self._read()

    def _greeting(self, interval_s: float) -> Dict[str, Any]:
        return {
            "version": self._options.version,
            "board": {"hardware": {"Model": "NVIDIA Jetson Xavier NX"}},
            "interval": interval_s,
            "memory": "/swfile",
            "fan": {},
            "jc": True,
            "nvpmodel": {"models": ["MODE_15W_2CORE", "MODE_15W_6CORE"], "default": {}},
        }

    def _read(self) -> None:
        self._readings = min(self._readings + 1, self._options.frozen_after)
        self.data.update(readings(100.0 + self._readings))
        self.event.set()


def readings(uptime_s: float) -> Dict[str, Any]:
    """What a Xavier NX says, in the package's own shape."""
    core = {"online": True, "user": 20.0, "nice": 0.0, "system": 5.0, "idle": 75.0}
    return {
        "uptime": uptime_s,
        "cpu": {
            "total": {"user": 20.0, "nice": 0.0, "system": 5.0, "idle": 75.0},
            "cpu": [{**core, "freq": {"min": 115200, "max": 1420800, "cur": 1190400}}] * 4
            + [{"online": False}] * 2,
        },
        "gpu": {
            "gv11b": {
                "type": "integrated",
                "status": {"load": 87.3, "railgate": False, "3d_scaling": True},
                "freq": {"governor": "nvhost_podgov", "min": 114750, "max": 1109250, "cur": 318750},
            }
        },
        "processes": [],
        "mem": {
            "RAM": {
                "tot": 6851 * _MB,
                "used": 3168 * _MB,
                "free": 100 * _MB,
                "shared": 1224 * _MB,
                "lfb": 2,
            },
            "SWAP": {"tot": 3426 * _MB, "used": 161 * _MB, "cached": 0, "table": {}},
            "EMC": {"cur": 1600000, "max": 1600000, "min": 204000, "val": 20, "online": True},
        },
        "engines": {
            "NVDEC": {"NVDEC": {"online": True, "cur": 601600}},
            "NVENC": {"NVENC": {"online": False, "cur": 115200}},
        },
        "temperature": {
            "CPU": {"temp": 46.5, "online": True},
            "GPU": {"temp": 45.5, "online": True},
            "CV0": {"temp": -256, "online": False},
        },
        "power": {
            "rail": {
                "VDD_CPU_GPU_CV": {"volt": 4968, "curr": 136, "power": 675, "online": True},
                "VDD_SOC": {"volt": 4968, "curr": 137, "power": 680, "online": True},
            },
            "tot": {"volt": 4968, "curr": 560, "power": 2782, "name": "VDD_IN"},
        },
        "fan": {"pwmfan": {"speed": [30.2], "rpm": [2140], "profile": "quiet"}},
        "jc": {"enable": False, "thread": False, "config": False, "boot": False},
        "nvp": {"status": [], "thread": False, "model": {"name": "MODE_15W_6CORE", "id": 2}},
    }


if __name__ == "__main__":
    main()
