"""The section of the appliance's report about itself."""

from __future__ import annotations

from enum import Enum
from typing import List, Optional

from pydantic import Field

from edge.config.alerts import AlertsConfig
from edge.config.section import Section


class Probe(str, Enum):
    """A program or a driver that knows more of the machine than any process can read."""

    JTOP = "jtop"
    TEGRASTATS = "tegrastats"
    NVML = "nvml"


class HealthConfig(Section):
    """The device's report about itself."""

    interval_s: float = Field(
        10.0, ge=1, le=3600, description="Seconds between health and camera stats messages."
    )
    sample_s: float = Field(
        2.0,
        ge=0.5,
        le=60,
        description="Seconds between two readings of the machine's sensors.",
    )
    probes: List[Probe] = Field(
        list(Probe),
        description="What else than the kernel's own files may be asked, the best first: jtop (the "
        "service of jetson-stats), tegrastats, nvml (NVIDIA's driver on other machines). Whichever "
        "is not there, or fails, is passed over.",
    )
    alerts: AlertsConfig = AlertsConfig()
    prometheus_port: Optional[int] = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port on which Prometheus may read the same numbers; default: none.",
    )
    prometheus_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address of that port; 0.0.0.0 lets other machines read it, without a "
        "password.",
    )
