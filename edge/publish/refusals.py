"""What a broker means when it turns a client away, and what to do about it."""

from __future__ import annotations

from edge.config.mqtt import MqttConfig

# Reason codes of MQTT 5, into which paho translates those of 3.1.1.
_UNSUPPORTED_VERSION = 0x84
_CLIENT_ID_REJECTED = 0x85
_BAD_USER_OR_PASSWORD = 0x86
_NOT_AUTHORIZED = 0x87
_UNAVAILABLE = 0x88
_BUSY = 0x89
_BANNED = 0x8A
_QUOTA_EXCEEDED = 0x97
_RATE_EXCEEDED = 0x9F


def refusal_in_words(code: int, config: MqttConfig, client_id: str) -> str:
    """Explains a CONNACK with this MQTT 5 reason code."""
    if code in (_BAD_USER_OR_PASSWORD, _NOT_AUTHORIZED) and config.username is None:
        return "it wants a user and a password: set mqtt.username and mqtt.password"
    words = {
        _UNSUPPORTED_VERSION: f"it does not speak MQTT {config.version.value}: change mqtt.version",
        _CLIENT_ID_REJECTED: f"it rejects the client id {client_id!r}: change mqtt.client_id",
        _BAD_USER_OR_PASSWORD: f"wrong user or password for user {config.username!r}: "
        "check mqtt.username and mqtt.password",
        _NOT_AUTHORIZED: f"user {config.username!r} is not authorized: check mqtt.username, "
        "mqtt.password and the broker's access list",
        _UNAVAILABLE: "it is unavailable",
        _BUSY: "it is busy",
        _BANNED: f"it has banned the client id {client_id!r} or this address",
        _QUOTA_EXCEEDED: "its quota is used up",
        _RATE_EXCEEDED: "too many connect to it at once",
    }
    return words.get(code, f"it gives reason code {code}")


def is_passing(code: int) -> bool:
    """Tells whether the same attempt may succeed later without anybody's help."""
    return code in (_UNAVAILABLE, _BUSY, _QUOTA_EXCEEDED, _RATE_EXCEEDED)
