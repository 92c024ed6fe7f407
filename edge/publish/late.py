"""What a message says of itself when it is sent later than it was made."""

from __future__ import annotations

import json

from edge.clock import rfc3339


def told_late(payload: bytes, shift_ms: int, *, is_replayed: bool) -> bytes:
    """A JSON payload with `replayed` as it is, and its times moved by `shift_ms`.

    The shift is that of a clock which was set after the message had been made, so that its times
    can be believed now.
    """
    body = json.loads(payload)
    body["replayed"] = is_replayed
    if shift_ms:
        body["ts_ms"] = max(0, body["ts_ms"] + shift_ms)
        body["ts"] = rfc3339(body["ts_ms"])
        if "clock_synced" in body:
            body["clock_synced"] = True
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
