"""The `edge` command: parses, calls, maps errors to exit codes.

Heavy imports happen inside the commands, so that signals are handled and `--help` answers
before OpenCV and the network's runtime are loaded.
"""

from __future__ import annotations

import _thread
import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Iterator, Optional, Sequence

from edge import __version__
from edge.errors import EXIT_CONFIG, EXIT_SOFTWARE, EdgeError

log = logging.getLogger(__name__)

DESCRIPTION = "The vision appliance for NVIDIA Jetson: cameras in, detections over MQTT out."

EXIT_CODES = """exit codes:
  0   done, or stopped by SIGINT or SIGTERM
  2   wrong use of the command line
  70  failed while running; a supervisor should restart it
  78  the configuration or a file it names is wrong; restarting will not help
"""


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
        help="how much to log on stderr (default: info; demo: warning)",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_demo(commands)
    _add_schema(commands)
    return root


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run the daemon",
        description="Runs the daemon until SIGTERM or SIGINT: reads the cameras, detects, "
        "publishes over MQTT. A broker or camera that is absent is waited for.",
    )
    _add_config(run)
    run.set_defaults(call=_run)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check",
        help="validate a configuration and explain it",
        description="Validates the file, opens the model and reads one frame of every camera, "
        "and says what the daemon would do. Nothing is published.",
    )
    _add_config(check)
    check.set_defaults(call=_check)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="run on bundled clips with a broker of its own",
        description="Runs the real daemon on four bundled cameras (two clips, a folder of "
        "images, a live synthetic scene) with a bundled detector of industrial parts and a "
        "broker of its own on loopback. Ctrl-C ends.",
    )
    demo.add_argument("--seconds", type=_positive, metavar="N", help="end after N seconds")
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
        help="print the JSON Schema of the configuration or of the MQTT payloads",
        description="Prints JSON Schema (draft 2020-12): of the configuration file, for "
        "completion and checks in an editor, or of every MQTT payload.",
    )
    schema.add_argument(
        "--mqtt", action="store_true", help="the payloads, one schema per message kind"
    )
    schema.set_defaults(call=_schema)


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-c", "--config", type=Path, required=True, metavar="FILE", help="the YAML file"
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text}")
    return value


def entry() -> None:
    """The process: runs `main` and ends."""
    code = main()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # Not sys.exit: a camera's thread that is left behind in its driver, and comes back while the
    # interpreter is being taken down, would abort the process.
    os._exit(code)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one command and returns its exit code."""
    stop = threading.Event()
    with _stop_signals(stop):
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
        except Exception as error:  # the main thread's top: said, and the supervisor restarts
            log.debug("internal error", exc_info=True)
            print(
                f"edge {arguments.command}: internal error: {error!r} "
                "(--log-level debug shows where)",
                file=sys.stderr,
            )
            return EXIT_SOFTWARE


@contextlib.contextmanager
def _stop_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once."""
    is_signalled = False

    def on_signal(number: int, frame: Optional[FrameType]) -> None:
        nonlocal is_signalled
        if is_signalled:
            os._exit(128 + number)
        is_signalled = True
        # Not here: `set` takes the lock that the interrupted thread may hold inside `wait`.
        _thread.start_new_thread(stop.set, ())

    signals = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, on_signal) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous):
            signal.signal(number, handler)


def _configure_logging(arguments: argparse.Namespace) -> None:
    default = "warning" if arguments.command in ("demo", "check") else "info"
    level = (arguments.log_level or default).upper()
    # journald stamps the time itself.
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=level, format=f"{stamp}%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


def _run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.app import App
    from edge.config.load import load

    config = load(arguments.config, os.environ)
    App(config, arguments.config.resolve().parent, stop).run()
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


def _schema(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.config.load import config_schema
    from edge.publish.schemas import all_schemas

    print(json.dumps(all_schemas() if arguments.mqtt else config_schema(), indent=2))
    return 0


def _demo(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from edge.app import App
    from edge.demo.show import show

    summary = show(App, stop, arguments.seconds, arguments.save)
    if arguments.json:
        print(json.dumps(summary))
    return 0
