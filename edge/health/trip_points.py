"""At which temperature the kernel begins to slow the machine down."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Optional

from edge.health.sysfs import read_int, read_text
from edge.health.thermal import zone_name

_MILLI = 1000

# A trip point outside is switched off: 0, -274 °C, the largest number there is.
_CREDIBLE_C = (50.0, 115.0)


def read_throttle_c(root: Path = Path("/")) -> Optional[float]:
    """The lowest trip point, in degrees Celsius, from which the kernel cools by slowing down.

    None where it names none. Fans answer to trip points of another type.
    """
    return min(_passive_trips_c(root), default=None)


def _passive_trips_c(root: Path) -> Iterator[float]:
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        if zone_name(read_text(zone / "type") or "") is None:
            continue  # a constant, or a mean of others: it says nothing of the silicon
        for kind in zone.glob("trip_point_*_type"):
            trip = read_int(kind.with_name(kind.name.replace("_type", "_temp")))
            if read_text(kind) == "passive" and trip is not None:
                celsius = trip / _MILLI
                if _CREDIBLE_C[0] <= celsius <= _CREDIBLE_C[1]:
                    yield celsius
