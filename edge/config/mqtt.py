"""The sections of the broker: who it is, how it is spoken to, and who may listen in."""

from __future__ import annotations

import ipaddress
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from pydantic import Field, SecretStr, field_validator

from edge.config.section import Section

TOPIC_LEVEL = r"^[A-Za-z0-9_.-]{1,64}$"
# A name, an IPv4 or an IPv6 address; neither a URL nor name:port.
HOST = r"^([^\s:/@\[\]]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%a-z]*)$"
TOPIC_PREFIX = r"^[A-Za-z0-9_.-]{1,64}(/[A-Za-z0-9_.-]{1,64})*$"

_PORT = 1883
_TLS_PORT = 8883


class MqttVersion(str, Enum):
    """The protocol's version."""

    V3_1_1 = "3.1.1"
    V5 = "5"


class TlsVersion(str, Enum):
    """The oldest TLS that will do."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class TlsConfig(Section):
    """Who may vouch for the broker, and who the appliance is."""

    ca_file: Optional[Path] = Field(
        None,
        description="PEM file of the authorities that may vouch for the broker, relative to this "
        "file; default: the system's.",
    )
    certificate_file: Optional[Path] = Field(
        None, description="PEM file of the appliance's own certificate, for a broker that asks."
    )
    key_file: Optional[Path] = Field(
        None, description="PEM file of its private key; default: it lies in certificate_file."
    )
    key_password: Optional[SecretStr] = Field(None, description="What the private key opens with.")
    key_password_file: Optional[Path] = Field(
        None, description="File that holds key_password in its first line."
    )
    min_version: TlsVersion = Field(TlsVersion.V1_2, description="The oldest TLS that will do.")
    check_hostname: bool = Field(
        True,
        description="The broker's certificate must be for mqtt.host. false: any certificate of "
        "these authorities will do.",
    )


class HomeAssistantConfig(Section):
    """Whether the appliance announces itself to Home Assistant."""

    discovery: bool = Field(
        False, description="Announce the appliance and its cameras as one device of entities."
    )
    prefix: str = Field(
        "homeassistant", pattern=TOPIC_PREFIX, description="First level(s) of discovery topics."
    )


class MqttConfig(Section):
    """The broker and how the appliance speaks to it."""

    host: str = Field(
        "localhost",
        min_length=1,
        pattern=HOST,
        description="Broker's name or address; the port is a key of its own.",
    )
    port: int = Field(
        _PORT, ge=1, le=65535, description="Broker's TCP port; default: 8883 with tls, else 1883."
    )
    version: MqttVersion = Field(
        MqttVersion.V3_1_1,
        description="3.1.1, which every broker speaks, or 5: messages carry their content type, "
        "the name of their schema, and an expiry.",
    )
    username: Optional[str] = Field(None, description="Broker's user.")
    username_file: Optional[Path] = Field(
        None, description="File that holds the user in its first line."
    )
    password: Optional[SecretStr] = Field(
        None, description="Broker's password; write ${NAME} to take it from the environment."
    )
    password_file: Optional[Path] = Field(
        None,
        description="File that holds the password in its first line, relative to this file; "
        "${CREDENTIALS_DIRECTORY}/NAME is a credential of systemd.",
    )
    allow_plaintext_password: bool = Field(
        False,
        description="Send the password to another machine without TLS, where whoever can listen "
        "can read it.",
    )
    tls: Optional[TlsConfig] = Field(
        None, description="Encrypts the connection; {} trusts the system's authorities."
    )
    client_id: Optional[str] = Field(
        None, min_length=1, description="Must be unique on the broker; default: prefix-device."
    )
    prefix: str = Field("edge", pattern=TOPIC_PREFIX, description="First level(s) of every topic.")
    keepalive_s: int = Field(30, ge=5, le=3600, description="Seconds between MQTT pings.")
    detections_qos: int = Field(0, ge=0, le=1, description="QoS of detections messages.")
    empty_frames: bool = Field(
        False, description="Also publish a detections message for frames without objects."
    )
    counts: bool = Field(
        True, description="Publish how many objects of each class a camera shows, when it changes."
    )
    snapshot_retain: bool = Field(False, description="The broker keeps each camera's last picture.")
    expiry_s: int = Field(
        60,
        ge=1,
        le=86_400,
        description="How long a broker of version 5 keeps detections, stats and health for a "
        "subscriber that is away.",
    )
    backlog: int = Field(
        1000, ge=1, le=100_000, description="Unsent messages held; more are dropped and counted."
    )
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()

    @field_validator("tls", mode="before")
    @classmethod
    def _check_tls_is_said(cls, given: Any) -> Any:
        # Whoever writes `tls:` and nothing more wants TLS, and must not get none.
        if given is None:
            raise ValueError("is empty: write `tls: {}` to trust the system's authorities")
        return given

    @property
    def broker(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.tcp_port}"

    @property
    def tcp_port(self) -> int:
        """`port`, or the protocol's own."""
        return _TLS_PORT if self.tls and "port" not in self.model_fields_set else self.port

    def client_id_of(self, device: str) -> str:
        """`client_id`, or the default that no other appliance has."""
        return self.client_id or f"{self.prefix}-{device}".replace("/", "-")

    @property
    def is_local(self) -> bool:
        """True where nothing leaves this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tells whether this name or address is the machine itself; never asks DNS."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
