"""Rules: the road to the broker, step by step: name, port, TLS, login, access list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional

from edge.config.mqtt import MqttConfig
from edge.doctor.finding import Finding, fault, ok, warning

_NO_TLS = "no TLS: "
# The file is at fault, and nobody has asked the broker.
_OWN_FILE = "mqtt.tls."


@dataclass(frozen=True)
class Rehearsal:
    """What the broker did: whether it took the message, said why not, and delivered it back."""

    is_confirmed: bool = False
    refusal: str = ""
    is_heard: bool = False
    may_listen: bool = True


@dataclass(frozen=True)
class Road:
    """How far it went: empty where a step succeeded, else in words what stopped it there.

    What comes after the first trouble was not tried. `address` is None where the name has none.
    `is_version_5`: the rehearsal was held in it, in which a broker says what it does not allow.
    """

    address: Optional[str] = None
    name_trouble: str = ""
    port_trouble: str = ""
    entry_trouble: str = ""
    rehearsal: Optional[Rehearsal] = None
    is_version_5: bool = False
    rehearsal_trouble: str = ""


def judge_broker(road: Road, config: MqttConfig, tree: str) -> Iterator[Finding]:
    """`tree` is what all of the appliance's topics begin with."""
    if road.address is None:
        fix = "check mqtt.host, /etc/resolv.conf and the network; or give the broker's address"
        yield fault("broker name", f"{config.host}: {road.name_trouble}", fix)
        return
    yield ok("broker name", f"{config.host} is {road.address}")
    if road.port_trouble:
        fix = "start the broker, check mqtt.port, the firewall and the broker's `listener`"
        yield fault("broker port", f"{config.tcp_port}: {road.port_trouble}", fix)
        return
    yield ok("broker port", f"{config.tcp_port} is open")
    yield from _entry(road, config)
    if not road.entry_trouble:
        yield _access(road, config, tree)


def _entry(road: Road, config: MqttConfig) -> Iterator[Finding]:
    reason = road.entry_trouble
    if reason.startswith(_NO_TLS):
        yield _no_tls(reason[len(_NO_TLS) :])
        return
    if config.tls is not None:
        yield ok("broker TLS", "its certificate is good for this name")
    elif not config.is_local:
        words = "not used: whoever can listen on the network reads everything"
        yield warning("broker TLS", words, "set mqtt.tls, and its port")
    if reason:
        words, _, advice = reason.partition(": ")
        yield fault("broker login", words, advice)
    else:
        who = "without a user" if config.username is None else f"as user {config.username!r}"
        yield ok("broker login", f"accepted {who}, MQTT {config.version.value}")


def _no_tls(reason: str) -> Finding:
    if reason.startswith(_OWN_FILE):
        return fault("broker TLS", reason, "put a good file there, or correct the key")
    words, _, advice = reason.partition(": ")
    return fault("broker TLS", words, advice)


def _access(road: Road, config: MqttConfig, tree: str) -> Finding:
    who = "everybody" if config.username is None else f"user {config.username}"
    fix = f"in the broker's access list, for {who}: topic readwrite {tree}#"
    told = road.rehearsal
    if told is None:
        return warning("broker access", f"not seen: {road.rehearsal_trouble}", fix)
    if told.refusal:
        return fault("broker access", f"may not publish under {tree} ({told.refusal})", fix)
    if not told.is_confirmed:
        return warning("broker access", "the broker acknowledges nothing in time", "see its log")
    if told.is_heard:
        return ok("broker access", f"may publish and listen under {tree}")
    if told.may_listen and not road.is_version_5:
        # Version 3.1.1 has no word for "not authorized": what may not be said is dropped.
        words = f"takes what is published under {tree} and delivers it to nobody"
        return fault("broker access", words, fix)
    return warning("broker access", f"may publish under {tree}, not listen: no commands", fix)
