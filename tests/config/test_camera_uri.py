from __future__ import annotations

from pathlib import Path

import pytest

from edge.config.camera_uri import (
    CameraUri,
    CsiSpec,
    GStreamerSpec,
    MediaSpec,
    RtspSpec,
    SourceSpec,
    SyntheticSpec,
    V4l2Spec,
    parse,
)

BASE = Path("/etc/edge")


@pytest.mark.parametrize(
    ("uri", "spec"),
    [
        ("clips/a.mp4", MediaSpec(BASE / "clips/a.mp4")),
        ("../images", MediaSpec(BASE / "../images")),
        ("/data/a b:c.mp4", MediaSpec(Path("/data/a b:c.mp4"))),
        ("/dev/shm/a.mp4", MediaSpec(Path("/dev/shm/a.mp4"))),
        ("/dev/video0", V4l2Spec(Path("/dev/video0"))),
        ("/dev/video12", V4l2Spec(Path("/dev/video12"))),
        ("/dev/v4l/by-id/usb-cam-0", V4l2Spec(Path("/dev/v4l/by-id/usb-cam-0"))),
        ("/dev/video0/clip.mp4", MediaSpec(Path("/dev/video0/clip.mp4"))),
        ("synthetic://0", SyntheticSpec(0, (640, 480))),
        ("synthetic://4294967295", SyntheticSpec(2**32 - 1, (640, 480))),
        ("synthetic://7?size=1920x1080", SyntheticSpec(7, (1920, 1080))),
        ("Synthetic://7?size=64x7680", SyntheticSpec(7, (64, 7680))),
        ("rtsp://10.0.0.5/s", RtspSpec("rtsp://10.0.0.5/s", "10.0.0.5:554")),
        ("RTSP://Cam.local/S", RtspSpec("rtsp://Cam.local/S", "cam.local:554")),
        ("rtsps://h:1/s", RtspSpec("rtsps://h:1/s", "h:1")),
        ("rtsp://[fe80::1]:8554/s", RtspSpec("rtsp://[fe80::1]:8554/s", "[fe80::1]:8554")),
        ("rtsp://u:p%40ss@h/s?a=b", RtspSpec("rtsp://u:p%40ss@h/s?a=b", "h:554")),
        ("rtsp://u:p@ss@h/s", RtspSpec("rtsp://u:p@ss@h/s", "h:554")),
        ("csi://0", CsiSpec(0)),
        ("CSI://31", CsiSpec(31)),
        ("gstreamer:videotestsrc ! appsink", GStreamerSpec("videotestsrc ! appsink")),
        ("GStreamer: videotestsrc", GStreamerSpec("videotestsrc")),
        ("gstreamer:rtspsrc location=rtsp://h/s", GStreamerSpec("rtspsrc location=rtsp://h/s")),
        ("gstreamer.mp4", MediaSpec(BASE / "gstreamer.mp4")),
    ],
)
def test_what_a_uri_names(uri: str, spec: SourceSpec) -> None:
    assert CameraUri(uri).resolve(BASE) == spec


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://h/a.mp4", "unknown kind http://"),
        ("file:///a.mp4", "unknown kind file://"),
        ("csi:0", "followed by //"),
        ("csi://", "needs a sensor's number"),
        ("csi://32", "needs a sensor's number"),
        ("csi://-1", "needs a sensor's number"),
        ("csi://0?size=640x480", "keys of the camera"),
        ("gstreamer:", "needs a pipeline"),
        ("gstreamer: ", "needs a pipeline"),
        ("gstreamer://videotestsrc", "needs a pipeline"),
        ("gstreamer:videotestsrc !", "needs a pipeline"),
        ("gstreamer:! appsink", "needs a pipeline"),
        ("rtsp:/u:secret@h/s", "followed by //"),
        ("synthetic:7", "followed by //"),
        ("rtsp://", "needs a host"),
        ("rtsp:///stream", "needs a host"),
        ("rtsp://u:secret@/s", "needs a host"),
        ("rtsp://u:sec/ret@h/s", "%2F"),
        ("rtsp://u:sec#ret@h/s", "%23"),
        ("rtsp://h:99999/s", "host:port"),
        ("rtsp://[fe80::1/s", "host:port"),
        ("synthetic://", "needs a seed"),
        ("synthetic://x", "needs a seed"),
        ("synthetic://-1", "needs a seed"),
        ("synthetic://4294967296", "needs a seed"),
        ("synthetic://٣", "needs a seed"),
        ("synthetic://7/640x480", "only"),
        ("synthetic://7?size=640", "WIDTHxHEIGHT"),
        ("synthetic://7?size=", "WIDTHxHEIGHT"),
        ("synthetic://7?size=63x480", "64 to 7680"),
        ("synthetic://7?size=640x7681", "64 to 7680"),
        ("synthetic://7?size=640x480&size=640x480", "twice"),
        ("synthetic://7?fps=5", "no option 'fps'"),
        ("a\0b.mp4", "NUL"),
    ],
)
def test_nonsense_is_explained_without_secrets(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        CameraUri(uri)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert "sec" not in message
    assert "ret@" not in message


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@host/s", "rtsp://***@host/s"),
        ("rtsp://user:sec@ret@host/s", "rtsp://***@host/s"),
        ("rtsp://user@host/s", "rtsp://***@host/s"),
        ("rtsp://user:12/sec@host/s", "rtsp://***@host/s"),
        ("rtsp://host/user=u&password=secret&ch=1", "rtsp://host/user=u&password=***&ch=1"),
        ("rtsp://host/s?token=secret", "rtsp://host/s?token=***"),
        ("rtsp://host/s?psw=secret", "rtsp://host/s?psw=***"),
        ("rtsp://host/s?user_password=secret&n=1", "rtsp://host/s?user_password=***&n=1"),
        ("rtsp://user:my secret@host/s", "rtsp://***@host/s"),
        ("rtsp://user:se!cret@host/s", "rtsp://***@host/s"),
        (
            "rtsp://host/user=u_password=secret_channel=1_stream=0.sdp",
            "rtsp://host/user=u_password=***_channel=1_stream=0.sdp",
        ),
        ("gstreamer:x user-pw='my secret' name=a ! y", "gstreamer:x user-pw=*** name=a ! y"),
        (
            'gstreamer:x location="rtsp://u:my secret@h/s" ! y',
            'gstreamer:x location="rtsp://***@h/s" ! y',
        ),
        ("rtsp://host/s", "rtsp://host/s"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
        (
            "gstreamer:rtspsrc location=rtsp://u:secret@h/s latency=1 ! decodebin",
            "gstreamer:rtspsrc location=rtsp://***@h/s latency=1 ! decodebin",
        ),
        (
            'gstreamer:rtspsrc location="rtsp://u:secret@h/s" ! x',
            'gstreamer:rtspsrc location="rtsp://***@h/s" ! x',
        ),
        (
            'gstreamer:x user-id=secret user-pw="secret \\" secret" proxy-pw = secret name=a ! y',
            "gstreamer:x user-id=*** user-pw=*** proxy-pw=*** name=a ! y",
        ),
        (
            "gstreamer:x location=http://h/s?token=secret ! y",
            "gstreamer:x location=http://h/s?token=*** ! y",
        ),
        ("gstreamer:x secret-access-key=secret ! y", "gstreamer:x secret-access-key=*** ! y"),
    ],
)
def test_credentials_are_not_shown(uri: str, shown: str) -> None:
    assert str(CameraUri(uri)) == f"{CameraUri(uri)}" == shown
    assert repr(CameraUri(uri)) == f"CameraUri({shown!r})"
    assert "secret" not in repr(parse(uri, BASE))
