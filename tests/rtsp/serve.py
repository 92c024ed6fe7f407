"""An RTSP server of recordings, sent as they were encoded; run by the system's own Python.

    /usr/bin/python3 serve.py PORT NAME=FILE.mp4[:h265][:loss=0.02] ... [--user NAME:PASSWORD]

Prints "ready" once it listens. Needs gir1.2-gst-rtsp-server-1.0 and python3-gi.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Tuple

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  (after the versions)

_DEMUX = {".mp4": "qtdemux", ".ts": "tsdemux"}


def pipeline(text: str) -> str:
    path, *options = text.split(":")
    codec = "h265" if "h265" in options else "h264"
    losses = [option.split("=")[1] for option in options if option.startswith("loss=")]
    loss = f"identity drop-probability={losses[0]} ! " if losses else ""
    demux = next(demux for suffix, demux in _DEMUX.items() if path.endswith(suffix))
    # Parameter sets before every key frame: who comes late, and who lives through a change of
    # size, needs them.
    return (
        f"( filesrc location={path} ! {demux} ! {codec}parse config-interval=-1 ! {loss}"
        f"rtp{codec}pay name=pay0 pt=96 config-interval=-1 )"
    )


def protect(server: Any, user: str) -> None:
    name, _, password = user.partition(":")
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
    server.set_auth(auth)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("mounts", nargs="+", type=lambda text: tuple(text.split("=", 1)))
    parser.add_argument("--user")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    if options.user:
        protect(server, options.user)
    for mount in options.mounts:
        add(server, mount, is_protected=options.user is not None)
    server.attach(None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


def add(server: Any, mount: Tuple[str, str], *, is_protected: bool) -> None:
    name, recording = mount
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline(recording))
    if is_protected:
        permissions = GstRtspServer.RTSPPermissions()
        for right in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("viewer", right, True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory(f"/{name}", factory)


if __name__ == "__main__":
    main()
