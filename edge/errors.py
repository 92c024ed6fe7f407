"""Everything that can go wrong, as a tree.

EdgeError                 exit 70: the process is restarted
├── ConfigError           exit 78: the user must change something, never restarted
│   └── ModelError        the ONNX file cannot serve as a detector
├── BuildError            a graph or an engine could not be made
├── EngineError           an inference backend failed
│   ├── EngineOutOfMemory fewer frames at once may fit
│   ├── EngineHangs       it does not answer, nor would it let itself be closed
│   └── CudaError         a CUDA call failed
├── RestartAsked          exit 75: the process is restarted, as was asked for
├── CaptureError          a camera failed; its reader retries
├── ProbeError            a source of health readings is of no use; the next best is used
└── PublishError          a message could not be handed over; it is counted or kept
    └── BrokerRefuses     the broker is there and will not have us, or we not it
"""

from __future__ import annotations

# sysexits.h: EX_SOFTWARE and EX_CONFIG. systemd restarts on the first, never on the second
# (RestartPreventExitStatus=78).
EXIT_SOFTWARE = 70
EXIT_CONFIG = 78

# EX_TEMPFAIL: nothing is wrong, and systemd restarts on it as on any failure.
EXIT_RESTART = 75


class EdgeError(Exception):
    """Base of every error this program raises on purpose."""

    exit_code = EXIT_SOFTWARE


class ConfigError(EdgeError):
    """The configuration, or a file it names, is wrong; the message holds one line per fault."""

    exit_code = EXIT_CONFIG


class ModelError(ConfigError):
    """The model file is missing, damaged, or not a detector this program can serve."""


class BuildError(EdgeError):
    """A deployed graph or an engine could not be made."""


class EngineError(EdgeError):
    """An inference backend failed."""


class EngineOutOfMemory(EngineError):
    """An inference backend ran out of memory; fewer frames at once may fit."""


class EngineHangs(EngineError):
    """An inference backend does not answer: whoever waits for it, or closes it, waits for ever."""


class CudaError(EngineError):
    """A CUDA call failed.

    `name` is the driver's name of the error, `call` the call that returned it.
    """

    def __init__(self, name: str, call: str) -> None:
        super().__init__(f"{call} failed: {name}")
        self.name = name
        self.call = call


class CaptureError(EdgeError):
    """A camera could not be opened or stopped delivering."""


class RestartAsked(EdgeError):
    """Somebody who may asked for a restart; nothing is wrong."""

    exit_code = EXIT_RESTART


class ProbeError(EdgeError):
    """A source of health readings is of no use now; the message says why and what to do."""


class PublishError(EdgeError):
    """A message could not be handed to the broker."""


class BrokerRefuses(PublishError):
    """The broker is there and will not have us, or we not it: only the user can mend that."""
