"""The configuration in use, and how it changes while frames flow.

Part of the composition root, with `app.py`.
"""

from __future__ import annotations

import logging
from typing import Callable, Optional, Tuple

from edge.config.combinations import contradictions
from edge.config.faults import key_path
from edge.config.schema import Config
from edge.engines import needs_priority_engine
from edge.errors import ConfigError, EdgeError
from edge.line import Line
from edge.reload import Change, compare

log = logging.getLogger(__name__)


class RunningConfig:
    """The file's configuration, and what was changed of it since; belongs to the main loop.

    `on_change` is called after each change.
    """

    def __init__(self, config: Config, on_change: Callable[[], None]) -> None:
        self.config = config
        self._on_change = on_change
        self._line: Optional[Line] = None
        # What the last reading of the file left to be said, for as long as it is so.
        self.notice = ""

    @property
    def line(self) -> Line:
        """What runs; EdgeError where nothing does yet."""
        if self._line is None:
            raise EdgeError("the appliance is still starting")
        return self._line

    def serve(self, line: Line) -> None:
        """Changes go to this line from here on."""
        self._line = line

    def reload(self, read: Callable[[], Config]) -> str:
        """Takes over what can change while frames flow; says in words what it does.

        Where `read` or the change raises EdgeError all goes on as it was, and that is said.
        """
        try:
            change, _ = self._apply(read())
        except EdgeError as error:
            for fault in str(error).splitlines():
                log.error("%s", fault)
            log.error("the configuration is not changed: all goes on as it was")
            self.notice = f"new configuration refused: {first_line(error)}"
            raise
        log.info("configuration read again: %s", change.words or "nothing changes")
        restart = ", ".join(change.restart_keys)
        self.notice = f"a restart is needed for {restart}" if restart else ""
        if restart:
            log.warning("needs a restart, and stays as it was: %s", restart)
        self._on_change()
        return "; ".join(
            words for words in (change.words or "nothing changes", self.notice) if words
        )

    def change(self, wanted: Config) -> str:
        """Takes over what others than the file want; says what is to be added to that, if anything.

        Raises EdgeError where that cannot be, or contradicts itself: all goes on as it was.
        """
        for key, why in contradictions(wanted):
            raise ConfigError(f"{key_path(key)}: {why}")
        _, remark = self._apply(wanted)
        self._on_change()
        return remark

    def _apply(self, wanted: Config) -> Tuple[Change, str]:
        line = self.line
        before = self.config
        change = compare(before, wanted)
        line.apply(change.config)
        self.config = change.config
        needs = [needs_priority_engine(config, line.in_flight) for config in (before, self.config)]
        if needs != [False, True] or line.priority_engine_info is not None:
            return change, ""
        remark = "priority frames share the engine: one of their own needs a restart"
        log.warning("%s", remark)
        return change, remark


def first_line(error: EdgeError) -> str:
    """An error in one line; one of the configuration may have many."""
    faults = str(error).splitlines()
    return faults[0] + (f" and {len(faults) - 1} more" if len(faults) > 1 else "")
