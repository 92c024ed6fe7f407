from __future__ import annotations

import pytest

from edge.publish.topics import Topics

TOPICS = Topics("edge", "nx-0421")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        pytest.param(TOPICS.availability(), "edge/nx-0421/availability", id="availability"),
        pytest.param(TOPICS.state(), "edge/nx-0421/state", id="state"),
        pytest.param(TOPICS.info(), "edge/nx-0421/info", id="info"),
        pytest.param(TOPICS.health(), "edge/nx-0421/health", id="health"),
        pytest.param(TOPICS.camera_status("d"), "edge/nx-0421/camera/d/status", id="status"),
        pytest.param(TOPICS.camera_stats("d"), "edge/nx-0421/camera/d/stats", id="stats"),
        pytest.param(
            TOPICS.camera_detections("d"), "edge/nx-0421/camera/d/detections", id="detections"
        ),
        pytest.param(Topics("site/a", "x").state(), "site/a/x/state", id="deep prefix"),
    ],
)
def test_tree(topic: str, expected: str) -> None:
    assert topic == expected
