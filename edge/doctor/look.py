"""A look at one thing, side by side with others, that may hang or fail and holds nobody up."""

from __future__ import annotations

from concurrent.futures import wait
from typing import Callable, Generic, Iterable, Iterator, TypeVar

from edge.clock import NS_PER_S, Clock
from edge.doctor.finding import Finding, warning
from edge.errors import EdgeError
from edge.threads import call_in_thread

T = TypeVar("T")

# All looks begin together and have it in common. A broker behind a dead name server is the
# slowest; what hangs longer hangs for ever.
PATIENCE_S = 25.0


class Look(Generic[T]):
    """Gathers facts in a daemon thread from now on; `judge` is asked once they are there."""

    def __init__(self, subject: str, gather: Callable[[], T], clock: Clock) -> None:
        self._subject = subject
        self._answer = call_in_thread(f"doctor-{subject}", gather)
        self._clock = clock
        self._until_ns = clock.monotonic_ns() + int(PATIENCE_S * NS_PER_S)

    def facts(self, default: T) -> T:
        """The facts, or `default` where there are none in time."""
        answered = not self._wait() and self._answer.exception() is None
        return self._answer.result() if answered else default

    def findings(self, judge: Callable[[T], Iterable[Finding]]) -> Iterator[Finding]:
        """What `judge` makes of the facts; without any, why there are none."""
        if self._wait():
            yield warning(self._subject, f"no answer within {PATIENCE_S:.0f} s", "see `dmesg`")
            return
        error = self._answer.exception()
        if error is None:
            yield from judge(self._answer.result())
        else:
            yield warning(self._subject, _in_words(error))

    def _wait(self) -> bool:
        left_ns = max(self._until_ns - self._clock.monotonic_ns(), 0)
        return bool(wait((self._answer,), left_ns / NS_PER_S).not_done)


def _in_words(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return f"cannot be looked at: {error}"
    if isinstance(error, EdgeError):
        return str(error).splitlines()[0]
    if isinstance(error, OSError):
        return f"cannot be looked at: {error.strerror or type(error).__name__}"
    # The name alone: a foreign message may quote a URL with its password.
    return f"cannot be looked at: internal error: {type(error).__name__}"
