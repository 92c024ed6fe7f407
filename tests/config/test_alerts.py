from __future__ import annotations

from typing import Any, Dict

import pytest
from pydantic import ValidationError

from edge.config.alerts import AlertsConfig


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        pytest.param({"temperature": {"raise_c": 80, "clear_c": 80}}, "below raise_c", id="equal"),
        pytest.param({"temperature": {"clear_c": 80}}, "given with it", id="clear alone"),
        pytest.param({"latency": {"raise_ms": 50, "clear_ms": 51}}, "below raise_ms", id="latency"),
        pytest.param({"latency": {"clear_ms": 51}}, "given with it", id="clear latency alone"),
        pytest.param(
            {"memory": {"raise_below_mb": 500}}, "above raise_below_mb", id="against the default"
        ),
        pytest.param({"disk": {"clear_above_mb": 100}}, "above raise_below_mb", id="disk"),
        pytest.param({"outbox": {"raise_pct": 60}}, "below raise_pct", id="outbox"),
        pytest.param({"clock": {"hold_s": -1}}, "greater than or equal", id="negative time"),
        pytest.param({"camera": {}}, "not permitted", id="unknown alert"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: Dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        AlertsConfig.model_validate(keys)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"temperature": {"raise_c": 80, "clear_c": 79}}, id="both"),
        pytest.param({"temperature": None, "clock": None}, id="off"),
        pytest.param({"memory": {"raise_below_mb": 499}}, id="one of two"),
    ],
)
def test_what_makes_sense_is_taken(keys: Dict[str, Any]) -> None:
    config = AlertsConfig.model_validate(keys)
    assert (config.temperature is None) == ("temperature" in keys and keys["temperature"] is None)
