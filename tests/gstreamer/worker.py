"""Runs under the system's own Python, whose OpenCV has GStreamer: a VideoCapture over pipes.

Requests and replies are single lines of JSON; a picture's bytes follow its reply.
"""

import json
import sys
from typing import Any

import cv2


def main() -> None:
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    capture = cv2.VideoCapture()
    for line in iter(requests.readline, b""):
        call, argument = json.loads(line)
        reply: Any = None
        data = b""
        if call == "open":
            capture = cv2.VideoCapture(argument, cv2.CAP_GSTREAMER)
            reply = capture.isOpened()
        elif call == "read":
            ok, image = capture.read()
            reply = list(image.shape) if ok else None
            data = image.tobytes() if ok else b""
        elif call == "get":
            reply = capture.get(argument)
        else:
            capture.release()
        replies.write(json.dumps(reply).encode() + b"\n" + data)
        replies.flush()


if __name__ == "__main__":
    main()
