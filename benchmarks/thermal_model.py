"""A Xavier NX with a passive heat sink as two heat capacities, and what its work costs it.

Where the numbers come from:

- `THROTTLE_C`: the upper end of the junction temperature in NVIDIA's data sheet of the module
  (DA-09366-001 v1.3: -25 to 90 °C).
- `IDLE_W`, `FULL_W`: 2.8 W is VDD_IN of a module that does next to nothing, as its tegrastats (L4T
  R35) prints it; 15 W is the power mode of the data sheet.
- `FRAME_J`: 3 ms of CPU a frame (the budget that benchmarks/overhead.py holds) at 1.5 W a core,
  and as much again for the decoder; the watts of a core are assumed.
- `RESISTANCE_K_PER_W`: assumed is a cooling that just keeps 15 W below the data sheet's 90 °C in
  air of 40 °C, (90 - 40) / 15, a fifth of it between the silicon and the sink.
- `SINK_J_PER_K`: 180 g of aluminium at 897 J/(kg K); `DIE_J_PER_K`: 25 g of copper and board at
  400 J/(kg K). The masses are assumed.

For what is assumed `benchmarks.governor` also plays days with other resistances and masses.
"""

from __future__ import annotations

from dataclasses import dataclass

THROTTLE_C = 90.0
IDLE_W = 2.8
FULL_W = 15.0
FRAME_J = 2 * 0.003 * 1.5
# What is left of the full power for a GPU that is always busy while 240 frames a second come in.
GPU_W = FULL_W - IDLE_W - 240 * FRAME_J

RESISTANCE_K_PER_W = (90.0 - 40.0) / 15.0
_OF_DIE = 0.2
SINK_J_PER_K = 0.180 * 897.0
DIE_J_PER_K = 0.025 * 400.0

# The kernel lowers the clock by and by while it is too hot, down to a third, and raises it again
# once it is somewhat cooler.
_SLOWEST = 1 / 3
_CLOCK_STEP = 0.05
_HYSTERESIS_C = 1.0


@dataclass(frozen=True)
class Cooling:
    """How well, and how slowly, the module is cooled, in multiples of the above."""

    resistance: float = 1.0
    capacity: float = 1.0


USUAL = Cooling()


class Module:
    """Two nodes: the silicon with its package, and the heat sink; the air around is given."""

    def __init__(self, air_c: float, cooling: Cooling) -> None:
        resistance = RESISTANCE_K_PER_W * cooling.resistance
        self._die_to_sink = _OF_DIE * resistance
        self._sink_to_air = (1 - _OF_DIE) * resistance
        self._sink_j_per_k = SINK_J_PER_K * cooling.capacity
        self.die_c = self.sink_c = air_c
        self.clock = 1.0

    @property
    def is_throttled(self) -> bool:
        """Whether the kernel has lowered the clock."""
        return self.clock < 1.0

    def power_w(self, frames_per_s: float, busy: float) -> float:
        """What it draws; dynamic power goes with the frequency and the square of the voltage."""
        return IDLE_W + FRAME_J * frames_per_s + GPU_W * busy * self.clock**2

    def step(self, power_w: float, air_c: float, seconds: float) -> None:
        """Heats and cools it for so long, which is to be a small part of its time constants."""
        to_sink_w = (self.die_c - self.sink_c) / self._die_to_sink
        to_air_w = (self.sink_c - air_c) / self._sink_to_air
        self.die_c += (power_w - to_sink_w) / DIE_J_PER_K * seconds
        self.sink_c += (to_sink_w - to_air_w) / self._sink_j_per_k * seconds
        if self.die_c >= THROTTLE_C:
            self.clock = max(self.clock - _CLOCK_STEP * seconds, _SLOWEST)
        elif self.die_c < THROTTLE_C - _HYSTERESIS_C:
            self.clock = min(self.clock + _CLOCK_STEP * seconds, 1.0)
