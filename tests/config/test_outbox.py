from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edge.config.outbox import OutboxConfig


@pytest.mark.parametrize(
    ("key", "least", "below"),
    [
        pytest.param("max_mb", 1, 0, id="max_mb"),
        pytest.param("memory_mb", 1, 0, id="memory_mb"),
        pytest.param("events_max_age_s", 1, 0, id="events_max_age_s"),
        pytest.param("detections_max_age_s", 1, 0, id="detections_max_age_s"),
        pytest.param("events_commit_s", 0, -0.1, id="events_commit_s"),
        pytest.param("detections_commit_s", 0, -0.1, id="detections_commit_s"),
        pytest.param("drain_per_s", 1, 0, id="drain_per_s"),
    ],
)
def test_limits(key: str, least: Any, below: Any) -> None:
    assert getattr(OutboxConfig(**{key: least}), key) == least
    with pytest.raises(ValidationError):
        OutboxConfig(**{key: below})


def test_unknown_keys_are_errors() -> None:
    with pytest.raises(ValidationError):
        OutboxConfig(max_gb=1)  # type: ignore[call-arg]
