from __future__ import annotations

import threading

import pytest

from edge.capture.attempt import Attempt
from edge.errors import CaptureError

PATIENT_S = 30.0


def fail(error: Exception) -> int:
    raise error


def test_a_call_that_returns() -> None:
    assert Attempt("test", lambda: 7).result(PATIENT_S) == 7


def test_a_call_that_hangs_is_left_behind_and_may_still_come() -> None:
    gate = threading.Event()
    attempt = Attempt("test", lambda: gate.wait(PATIENT_S))
    assert attempt.result(0.01) is None
    assert attempt.result(-1.0) is None
    gate.set()
    assert attempt.result(PATIENT_S) is True


def test_a_call_that_fails() -> None:
    attempt = Attempt("test", lambda: fail(CaptureError("no frame")))
    for _ in range(2):
        with pytest.raises(CaptureError, match=r"^no frame$"):
            attempt.result(PATIENT_S)


def test_a_foreign_error_does_not_show_what_it_quotes() -> None:
    attempt = Attempt("test", lambda: fail(ValueError("rtsp://user:secret@host")))
    with pytest.raises(CaptureError, match=r"^internal error: ValueError$"):
        attempt.result(PATIENT_S)
