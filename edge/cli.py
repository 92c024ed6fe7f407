"""The `edge` command: parses, calls, maps errors to exit codes.

Heavy imports happen inside the commands, so that signals are handled and `--help` answers
before OpenCV and the network's runtime are loaded.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Optional, Sequence

from edge import __version__
from edge.arguments import (
    DESCRIPTION,
    EXIT_CODES,
    add_alive,
    add_bench,
    add_calibrate,
    add_config,
    add_doctor,
    add_install,
    positive,
    seconds_of_a_day,
)
from edge.errors import EXIT_CONFIG, EXIT_SOFTWARE, EdgeError
from edge.process import Hangups, end, open_missing_streams, stop_signals

log = logging.getLogger(__name__)

# Commands that say themselves what there is to say.
_QUIETER = {
    "build": "error",
    **dict.fromkeys(("demo", "check", "bench", "cameras", "doctor"), "warning"),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="edge",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"edge {__version__}")
    root.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="how much to log on stderr (default: info for run, else warning)",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_cameras(commands)
    add_doctor(commands, _doctor)
    _add_build(commands)
    add_bench(commands, _bench)
    add_calibrate(commands, _calibrate)
    _add_demo(commands)
    _add_schema(commands)
    add_install(commands, _install)
    add_alive(commands, _alive)
    return root


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run the daemon",
        description="Runs the daemon until SIGTERM or SIGINT: reads the cameras, detects, "
        "publishes over MQTT. A broker or camera that is absent is waited for. At SIGHUP "
        "the file is read again: what changed of the cameras, postprocess, health and "
        "batching.max_wait_ms holds from there on; a file that is wrong changes nothing.",
    )
    add_config(run)
    run.set_defaults(call=_run)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check",
        help="validate a configuration and explain it",
        description="Validates the file, opens the model and reads one frame of every camera, "
        "and says what the daemon would do. Nothing is published.",
    )
    add_config(check)
    check.set_defaults(call=_check)


def _add_cameras(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cameras = commands.add_parser(
        "cameras",
        help="list the cameras, look through them, and say what is wrong",
        description="Lists the cameras that are connected, with what they offer and what to write "
        "into the configuration. With a configuration it opens each of its cameras as the daemon "
        "would, measures size and rate, and says why one gives no frame and what to do. Stop the "
        "daemon first: most cameras serve one program only. Exit code 0 says that every enabled "
        "camera gave a frame, 1 that one did not.",
    )
    add_config(cameras, is_required=False)
    cameras.add_argument("--json", action="store_true", help="print one object instead of lines")
    cameras.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE.jpg",
        help="write a contact sheet: a picture of every camera, or why there is none; without a "
        "config, of those that are connected",
    )
    cameras.add_argument(
        "--timeout",
        type=seconds_of_a_day,
        default=10.0,
        metavar="S",
        help="wait S seconds for a camera's first frame (default: 10)",
    )
    cameras.set_defaults(call=_cameras)


def _add_build(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    build = commands.add_parser(
        "build",
        help="build the engine, and judge it",
        description="Builds what `edge run` will serve: a float engine first, then, where "
        "calibration.folder is given, an INT8 engine, which serves only if the gate finds it as "
        "good. What was built before and still fits is used again. The daemon does the same by "
        "itself; this shows it, and leaves it ready. Exit code 0 says that something can serve, 78 "
        "that something must be changed first, or that INT8 cannot be had without.",
    )
    add_config(build)
    build.add_argument("--json", action="store_true", help="print one object instead of lines")
    build.set_defaults(call=_build)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="run on bundled clips with a broker of its own",
        description="Runs the real daemon on four bundled cameras (two clips, a folder of "
        "images, a live synthetic scene) with a bundled detector of industrial parts and a "
        "broker of its own on loopback. Ctrl-C ends.",
    )
    demo.add_argument("--seconds", type=positive, metavar="N", help="end after N seconds")
    demo.add_argument(
        "--json", action="store_true", help="print one summary object on stdout at the end"
    )
    demo.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="write annotated frames (one per camera and second) and a contact sheet",
    )
    demo.set_defaults(call=_demo)


def _add_schema(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of the configuration, or what is said over MQTT",
        description="Prints the JSON Schema (draft 2020-12) of the configuration file, for "
        "completion and checks in an editor, a table of its keys, or the AsyncAPI 3 document of "
        "MQTT.",
    )
    what = schema.add_mutually_exclusive_group()
    what.add_argument(
        "--mqtt", action="store_true", help="every topic, and the schema of what is said on it"
    )
    what.add_argument(
        "--markdown", action="store_true", help="every key of the configuration, for people"
    )
    schema.set_defaults(call=_schema)


def entry() -> None:
    """The process: runs `main` and ends."""
    open_missing_streams()
    # Where each thread is, for the log, should a watchdog or a driver's fault end this process.
    faulthandler.enable(2)
    end(main())


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one command and returns its exit code."""
    stop = threading.Event()
    with stop_signals(stop):
        arguments = parser().parse_args(argv)
        _configure_logging(arguments)
        try:
            return int(arguments.call(arguments, stop))
        except EdgeError as error:
            print(f"edge {arguments.command}: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:
            # `edge schema | head`: the reader has what it wanted.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            # Everything else that reads or writes puts its errors into its own words.
            print(f"edge {arguments.command}: cannot write: {error}", file=sys.stderr)
            return EXIT_SOFTWARE
        except Exception as error:  # the main thread's top: said, and the supervisor restarts
            log.debug("internal error", exc_info=True)
            print(
                f"edge {arguments.command}: internal error: {error!r} "
                "(edge --log-level debug … shows where)",
                file=sys.stderr,
            )
            return EXIT_SOFTWARE


def _configure_logging(arguments: argparse.Namespace) -> None:
    level = (arguments.log_level or _QUIETER.get(arguments.command, "info")).upper()
    # journald stamps the time itself.
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=level, format=f"{stamp}%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


def _run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    hangups = Hangups()

    from edge.app import App
    from edge.config.load import load
    from edge.notify import Supervisor

    read = functools.partial(load, arguments.config, os.environ)
    app = App(read(), arguments.config.resolve().parent, stop)
    supervisor = Supervisor.from_environment(os.environ, os.getpid())
    app.run(lambda: app.reload(read) if hangups.take() else None, read, supervisor)
    return 0


def _check(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.check import Checker
    from edge.config.load import load

    # Nothing here needs an orderly end, and a camera that hangs must not outlast Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    config = load(arguments.config, os.environ)
    checker = Checker(config, arguments.config.resolve().parent)
    for line in checker.lines():
        print(line, flush=True)
    return EXIT_CONFIG if checker.faults else 0


def _cameras(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.cameras.command import CameraSurvey
    from edge.config.load import load

    # As for `edge check`: a camera that hangs must not outlast Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    path = arguments.config
    config = None if path is None else load(path, os.environ)
    base_dir = Path.cwd() if path is None else path.resolve().parent
    survey = CameraSurvey(config, base_dir, arguments.timeout, arguments.sheet)
    for line in survey.lines():
        if not arguments.json:
            print(line, flush=True)
    if arguments.json:
        print(json.dumps(survey.summary()))
    return survey.exit_code


def _doctor(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.config.load import load
    from edge.doctor.command import Doctor

    # As for `edge check`: what hangs must not outlast Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    path = arguments.config
    config = None if path is None else load(path, os.environ)
    doctor = Doctor(config, Path.cwd() if path is None else path.resolve().parent)
    for line in doctor.lines():
        if not arguments.json:
            print(line, flush=True)
    if arguments.json:
        print(json.dumps(doctor.summary()))
    return doctor.exit_code


def _build(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.build import Build
    from edge.config.load import load

    build = Build(load(arguments.config, os.environ), stop)
    try:
        for line in build.lines():
            if not arguments.json:
                print(line, flush=True)
    finally:
        if arguments.json:
            print(json.dumps(build.summary()))
    return 0


def _bench(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.bench.command import Bench
    from edge.config.load import load

    bench = Bench(load(arguments.config, os.environ), arguments.seconds, arguments.cameras)
    lines = itertools.chain(
        bench.measure(stop), bench.save(arguments.plot, is_tuning=arguments.tune)
    )
    try:
        for line in lines:
            if not arguments.json:
                print(line, flush=True)
    finally:
        if arguments.json:
            print(json.dumps(bench.summary()))
    return 0


def _calibrate(arguments: argparse.Namespace, stop: threading.Event) -> int:
    span = (arguments.seconds, arguments.hours, arguments.images)
    if not arguments.collect and span != (None, None, None):
        arguments.wrong_use("--seconds, --hours and --images go with --collect")

    from edge.calibrate import Collector, inspect
    from edge.config.load import load

    config = load(arguments.config, os.environ)
    base_dir = arguments.config.resolve().parent
    if arguments.collect:
        seconds = arguments.seconds or 3600 * (arguments.hours or 24)
        lines = Collector(config, base_dir, seconds, arguments.images or 500).lines(stop)
    else:
        # As for `edge check`: a camera that hangs must not outlast Ctrl-C.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        lines = inspect(config, base_dir)
    for line in lines:
        print(line, flush=True)
    return 0


def _schema(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.config.load import config_schema
    from edge.config.reference import markdown
    from edge.publish.schemas import document

    if arguments.markdown:
        print(markdown(), end="")
    else:
        print(json.dumps(document() if arguments.mqtt else config_schema(), indent=2))
    return 0


def _install(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.installing.command import Installation

    installation = Installation(arguments.root, arguments.container, is_dry=arguments.dry_run)
    for line in installation.undo() if arguments.undo else installation.install():
        print(line, flush=True)
    return 0


def _alive(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.notify import is_alive

    is_well = is_alive(arguments.file, time.monotonic_ns(), arguments.within)
    print("alive" if is_well else f"no progress within {arguments.within:g} s")
    return 0 if is_well else 1


def _demo(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.app import App
    from edge.demo.show import show

    summary = show(App, stop, arguments.seconds, arguments.save)
    if arguments.json:
        print(json.dumps(summary))
    return 0
