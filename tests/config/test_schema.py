from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge.config.schema import CameraConfig, Config


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
