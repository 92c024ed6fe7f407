from __future__ import annotations

import json

from edge.cameras.summary import device_object, result_object, sensor_object
from tests.cameras.samples import FAILED, GRABBER, LOST_SENSOR, OK, WEBCAM


def test_a_camera_that_works() -> None:
    assert result_object(OK) == {
        "name": "dock1",
        "uri": "rtsp://***@10.0.0.5/live",
        "state": "ok",
        "size_wh": [640, 360],
        "fps": 24.96,
        "first_frame_s": 0.322,
        "taken_at": "2023-11-14T22:13:20.123Z",
        "reason": None,
        "advice": None,
    }


def test_a_camera_that_does_not() -> None:
    found = result_object(FAILED)
    assert found["state"] == "failed"
    assert (found["size_wh"], found["fps"], found["taken_at"]) == (None, None, None)
    assert found["reason"] == "in use by ffmpeg (process 8)"
    assert found["advice"] == "stop that program first"


def test_devices_and_sensors() -> None:
    webcam = json.loads(json.dumps(device_object(WEBCAM)))
    assert webcam["device"] == "/dev/video0"
    assert webcam["formats"][0]["sizes"][1] == {"size_wh": [1920, 1080], "fps": [30.0, 15.0]}
    assert device_object(GRABBER)["reason"] == "no permission to open it"
    assert sensor_object(LOST_SENSOR)["sensor_id"] is None
