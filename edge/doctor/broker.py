"""Goes the road to the broker as far as it leads."""

from __future__ import annotations

import socket
from concurrent.futures import wait
from typing import Optional, Tuple

from edge.clock import Clock
from edge.config.mqtt import MqttConfig, MqttVersion
from edge.doctor.rehearsal import rehearse
from edge.doctor.road import Rehearsal, Road
from edge.errors import PublishError
from edge.publish.knock import knock
from edge.threads import call_in_thread

_NAME_S = 6.0
_STEP_S = 4.0


def walk(config: MqttConfig, client_id: str, topic: str, clock: Clock) -> Road:
    """Goes as far as it can; `client_id` must be no running daemon's."""
    address, trouble = _look_up(config.host, config.tcp_port)
    if address is None:
        return Road(name_trouble=trouble)
    try:
        # By the name: it tries all of its addresses.
        where = config.host, config.tcp_port
        socket.create_connection(where, timeout=_STEP_S).close()
    except OSError as error:  # a time-out has no strerror
        return Road(address, port_trouble=error.strerror or f"no answer within {_STEP_S:.0f} s")
    try:
        knock(config, client_id, clock, _STEP_S)
    except PublishError as error:
        return Road(address, entry_trouble=str(error))
    try:
        told, is_version_5 = _rehearse(config, client_id, topic, clock)
        return Road(address, rehearsal=told, is_version_5=is_version_5)
    except PublishError as error:
        return Road(address, rehearsal_trouble=str(error))


def _rehearse(
    config: MqttConfig, client_id: str, topic: str, clock: Clock
) -> Tuple[Rehearsal, bool]:
    is_5 = config.version is MqttVersion.V5
    told = rehearse(config, client_id, topic, clock, _STEP_S)
    if told.is_heard or is_5:
        return told, is_5
    in_5 = config.model_copy(update={"version": MqttVersion.V5})
    try:
        return rehearse(in_5, client_id, topic, clock, _STEP_S), True
    except PublishError:  # a broker that speaks 3.1.1 only
        return told, False


def _look_up(host: str, port: int) -> Tuple[Optional[str], str]:
    # A dead name server is waited for, and nothing can interrupt that.
    answer = call_in_thread(
        "doctor-name", lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    if wait((answer,), _NAME_S).not_done:
        return None, f"no name server answers within {_NAME_S:.0f} s"
    try:
        found = answer.result()
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that DNS cannot spell
        return None, getattr(error, "strerror", None) or str(error)
    return str(found[0][4][0]), ""
