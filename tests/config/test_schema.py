from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge.config.schema import BatchingConfig, CameraConfig, Config


def test_no_section_prints_its_secrets() -> None:
    config = Config.model_validate(
        {
            "model": {"path": "a.onnx"},
            "cameras": [{"name": "a", "uri": "rtsp://u:hunter2@h/1"}],
            "mqtt": {"username": "u", "password": "hunter2"},
        }
    )
    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(config)


def test_sections_are_frozen() -> None:
    camera = CameraConfig.model_validate({"name": "a", "uri": "b"})
    with pytest.raises(ValidationError):
        camera.name = "b"  # type: ignore[misc]


NAMES = {
    "shortest": ("a", True),
    "longest": ("a" * 64, True),
    "all kinds": ("dock_1-a", True),
    "empty": ("", False),
    "too long": ("a" * 65, False),
    "upper case": ("Dock", False),
    "slash": ("a/b", False),
    "wildcard": ("+", False),
    "line end": ("a\n", False),
}


@pytest.mark.parametrize(("name", "is_valid"), NAMES.values(), ids=NAMES)
def test_camera_names_fit_a_topic_level(name: str, is_valid: bool) -> None:
    values = {"name": name, "uri": "b"}
    if is_valid:
        assert CameraConfig.model_validate(values).name == name
    else:
        with pytest.raises(ValidationError):
            CameraConfig.model_validate(values)


LEAST = {
    "fps": 0.001,
    "max_staleness_ms": 1,
    "deadline_ms": 1,
    "stall_s": 0.1,
}


@pytest.mark.parametrize(("key", "least"), LEAST.items())
def test_a_camera_has_no_vanishing_times(key: str, least: float) -> None:
    values = {"name": "a", "uri": "b"}
    CameraConfig.model_validate({**values, key: least})
    for less in (least * 0.99, 1e-12, 1e-300, 0):
        with pytest.raises(ValidationError):
            CameraConfig.model_validate({**values, key: less})


def test_alignment_has_no_vanishing_times() -> None:
    assert BatchingConfig(align_ms=0.1).align_ms == 0.1
    with pytest.raises(ValidationError):
        BatchingConfig(align_ms=0.099)
