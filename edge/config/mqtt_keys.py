"""Keys of the broker's section that are right one by one and make no sense together."""

from __future__ import annotations

from typing import Iterator, Tuple

from edge.config.faults import Key
from edge.config.mqtt import MqttConfig

Contradiction = Tuple[Key, str]
"""The way to a key from the section, and what is wrong with it."""


def contradicting_keys(mqtt: MqttConfig) -> Iterator[Contradiction]:
    """What is missing beside a key, or excludes it."""
    yield from _given_twice(mqtt)
    has_password = mqtt.password is not None or mqtt.password_file is not None
    if has_password:
        yield from _password_keys(mqtt)
    if mqtt.tls is not None:
        yield from _key_without_certificate(mqtt)


def _given_twice(mqtt: MqttConfig) -> Iterator[Contradiction]:
    for name in ("username", "password"):
        if None not in (getattr(mqtt, name), getattr(mqtt, f"{name}_file")):
            yield (f"{name}_file",), f"is given beside mqtt.{name}: leave one of them out"
    tls = mqtt.tls
    if tls is not None and None not in (tls.key_password, tls.key_password_file):
        words = "is given beside mqtt.tls.key_password: leave one of them out"
        yield ("tls", "key_password_file"), words


def _password_keys(mqtt: MqttConfig) -> Iterator[Contradiction]:
    key = "password" if mqtt.password is not None else "password_file"
    if mqtt.username is None and mqtt.username_file is None:
        yield (key,), "is given without mqtt.username, and would never be sent"
    elif not (mqtt.tls or mqtt.is_local or mqtt.allow_plaintext_password):
        yield (
            (key,),
            f"would travel to {mqtt.host} for all to read: set mqtt.tls, or, on a network that "
            "is yours alone, mqtt.allow_plaintext_password: true",
        )


def _key_without_certificate(mqtt: MqttConfig) -> Iterator[Contradiction]:
    if mqtt.tls is None or mqtt.tls.certificate_file is not None:
        return
    for name in ("key_file", "key_password", "key_password_file"):
        if getattr(mqtt.tls, name) is not None:
            yield ("tls", name), "is given without mqtt.tls.certificate_file, whose key it is"
