"""What may stand on the command line; what may not, argparse tells the user."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Callable

Call = Callable[[argparse.Namespace, threading.Event], int]
"""Does what a command is for; returns the exit code."""

DESCRIPTION = "The vision appliance for NVIDIA Jetson: cameras in, detections over MQTT out."

EXIT_CODES = """exit codes:
  0   done, or stopped by SIGINT or SIGTERM
  1   `edge cameras`: an enabled camera gave no frame; `edge alive`: no progress;
      `edge doctor`: a fault
  2   wrong use of the command line
  70  failed while running; a supervisor should restart it
  75  stopped in order because a command asked for a restart
  78  the configuration or a file it names is wrong; restarting will not help
"""

_DAY_S = 86_400
_MOST_CAMERAS = 64


def add_config(command: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    """The file that a command works by."""
    command.add_argument(
        "-c", "--config", type=Path, required=is_required, metavar="FILE", help="the YAML file"
    )


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def seconds_of_a_day(text: str) -> float:
    """A number above 0 of seconds, at most a day."""
    value = positive(text)
    if value > _DAY_S:
        raise argparse.ArgumentTypeError(f"must be at most {_DAY_S} (a day), got {text}")
    return value


def positive_count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text}")
    return int(text)


def camera_count(text: str) -> int:
    """A whole number of synthetic cameras, also none."""
    if not text.isdecimal() or int(text) > _MOST_CAMERAS:
        raise argparse.ArgumentTypeError(f"must be 0 to {_MOST_CAMERAS}, got {text}")
    return int(text)


def add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser], call: Call) -> None:
    """`edge bench`."""
    bench = commands.add_parser(
        "bench",
        help="measure what the model does here, and choose a batch size",
        description="Says what machine this is, runs the configured model on batches of 1, 2, 4 … "
        "64 frames and prints throughput, latency, utilization and memory of each, and the knee: "
        "the smallest batch with 95 %% of the best throughput. On a GPU also one batch after the "
        "other and computing alone, the stages, and power where it can be read. Then synthetic "
        "cameras go the daemon's whole road. Stop the daemon first, it would be measured too. "
        "Ctrl-C ends with what was measured so far.",
    )
    add_config(bench)
    bench.add_argument(
        "--tune",
        action="store_true",
        help="write the knee and a plot into device.state_dir, where `edge run` finds it; a "
        "batching.target in the config goes first",
    )
    bench.add_argument("--json", action="store_true", help="print one object instead of the table")
    bench.add_argument(
        "--seconds",
        type=seconds_of_a_day,
        default=30.0,
        metavar="N",
        help="measure sizes for about N seconds (default: 30); a slow model takes longer, as every "
        "one is run at least five times, and power and cameras come on top",
    )
    bench.add_argument(
        "--cameras",
        type=camera_count,
        default=4,
        metavar="N",
        help="synthetic cameras to run end to end (default: 4; 0: none)",
    )
    bench.add_argument("--plot", type=Path, metavar="FILE.svg", help="where to write the plot")
    bench.set_defaults(call=call)


def add_calibrate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], call: Call
) -> None:
    """`edge calibrate`."""
    calibrate = commands.add_parser(
        "calibrate",
        help="check the calibration images, or collect them",
        description="Says how many images calibration.folder holds, how they are split, and what "
        "should be mended: copies, damaged files, sizes, shapes and light unlike the cameras'. "
        "With --collect it fills the folder from the cameras instead. Nothing is built.",
    )
    add_config(calibrate)
    calibrate.add_argument(
        "--collect",
        action="store_true",
        help="sample frames of all enabled cameras, evenly over the time, into calibration.folder; "
        "no file is overwritten, frames like the camera's last are skipped; Ctrl-C keeps the rest",
    )
    span = calibrate.add_mutually_exclusive_group()
    span.add_argument("--seconds", type=positive, metavar="N", help="collect for N seconds")
    span.add_argument(
        "--hours", type=positive, metavar="H", help="collect for H hours (default: 24, every shift)"
    )
    calibrate.add_argument(
        "--images",
        type=positive_count,
        metavar="N",
        help="images of all cameras together (default: 500)",
    )
    calibrate.set_defaults(call=call, wrong_use=calibrate.error)


def add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser], call: Call) -> None:
    """`edge doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="say what is right and wrong on this machine, with fixes",
        description="Looks at module, JetPack, clocks, libraries, devices, jtop, disk, time and "
        "limits, and with a configuration also at the broker, the calibration images and the "
        "engines kept. Each line is ok, warning, fault or not here. It changes nothing; the broker "
        "gets one message on <prefix>/<device>/doctor, which it does not keep. Takes at most half "
        "a minute. Exit code 1 says that there is a fault.",
    )
    add_config(doctor, is_required=False)
    doctor.add_argument("--json", action="store_true", help="print one object instead of lines")
    doctor.set_defaults(call=call)


def add_install(commands: argparse._SubParsersAction[argparse.ArgumentParser], call: Call) -> None:
    """`edge install`."""
    install = commands.add_parser(
        "install",
        help="put units, user and a first configuration in place",
        description="Puts the systemd units, their user, and a commented configuration with the "
        "cameras that are connected in place, and says what to do next. What is yours is never "
        "overwritten, and a second call changes nothing.",
    )
    install.add_argument(
        "--container", action="store_true", help="for the container; default: for /opt/edge"
    )
    install.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="where the machine's files lie: docker run -v /:/host … install --root /host",
    )
    install.add_argument("--dry-run", action="store_true", help="only say what would be done")
    install.add_argument(
        "--undo", action="store_true", help="take away again what nobody has changed since"
    )
    install.set_defaults(call=call)


def add_alive(commands: argparse._SubParsersAction[argparse.ArgumentParser], call: Call) -> None:
    """`edge alive`."""
    alive = commands.add_parser(
        "alive",
        help="tell whether the daemon makes progress",
        description="For a container's HEALTHCHECK. Exit code 0 says that `edge run`, with "
        "EDGE_ALIVE_FILE set to FILE, has made progress within the last seconds, 1 that it has "
        "not. systemd's watchdog hears the same.",
    )
    alive.add_argument("file", type=Path, metavar="FILE")
    alive.add_argument(
        "--within",
        type=seconds_of_a_day,
        default=30.0,
        metavar="S",
        help="seconds without progress that are too many (default: 30)",
    )
    alive.set_defaults(call=call)
