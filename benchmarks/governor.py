"""The governor on a module in a hot cabinet, beside the same cameras without it.

    python -m benchmarks.governor [--json] [--quick] [--save [DEVICE]]

Everything is simulated but the governor: `benchmarks.thermal_model` says where its constants come
from, `benchmarks.governed_day` what a day brings. Needs no machine of any kind.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence

from benchmarks import report
from benchmarks.governed_day import Day, Play, Site, serve, summer_air_c, working_day_fps
from benchmarks.thermal_model import THROTTLE_C, Cooling
from edge.health.governor import Targets

HEADROOM_C = 5.0
TARGETS = Targets(temp_c=THROTTLE_C - HEADROOM_C)

# So far the masses and the cooling that the model assumes may be off.
RESISTANCES = (0.9, 1.0, 1.1, 1.2)
CAPACITIES = (1 / 3, 1.0, 3.0)

# Air that stays as it is for six hours: what changes after the first one, changes by itself.
STEADY_AIR_C = tuple(range(30, 62, 2))
STEADY_S = 6 * 3600
SETTLED_S = 3600

LATENCY_TARGET_MS = 40.0
OVERLOAD_CAMERAS = 14
OVERLOAD_S = 3 * 3600


@dataclass
class Played:
    """All that was played."""

    fixed: Day
    governed: Day
    others: Dict[str, Day]
    steady: Dict[str, Day]
    overload: Day


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Plays the days and publishes what became of them."""
    options = report.parse(__doc__, arguments)
    played = play(quick=options.quick)
    result = GovernorReport("governor", options)
    result.played = played
    judge(result, played)
    result.publish()


class GovernorReport(report.Report):
    """Also tells each step of the day."""

    def __init__(self, benchmark: str, options: argparse.Namespace) -> None:
        super().__init__(benchmark, options)
        self.played: Optional[Played] = None

    def as_json(self) -> Dict[str, Any]:
        """The figures, and the day's steps."""
        days = {"governed": self.played.governed} if self.played else {}
        return {**super().as_json(), "steps": {name: steps(day) for name, day in days.items()}}

    def table(self) -> str:
        """The figures, then a line for each step."""
        lines = steps(self.played.governed) if self.played else []
        return "\n".join(
            [super().table(), "  the day's steps:", *(f"    {line}" for line in lines)]
        )


def play(*, quick: bool) -> Played:
    """The day, its variants, steady air, and too many cameras."""
    # The quick day is the hot part of the afternoon.
    day = Site(summer_air_c, working_day_fps, start_s=9 * 3600, length_s=6 * 3600)
    day = day if quick else replace(day, start_s=0, length_s=24 * 3600)
    _say("a day without the governor, and one with it")
    fixed, governed = Play(day, None).run(), Play(day, TARGETS).run()
    others = {}
    for cooling in [] if quick else _coolings():
        name = f"{cooling.resistance:g} x K/W, {cooling.capacity:.2g} x J/K"
        _say(f"a day with {name}")
        others[name] = Play(replace(day, cooling=cooling), TARGETS).run()
    steady = {}
    for air_c in STEADY_AIR_C[:: 8 if quick else 1]:
        _say(f"six hours in air of {air_c} °C")
        steady[f"{air_c} °C"] = Play(_steady_site(air_c), TARGETS).run()
    _say("too many cameras")
    return Played(fixed, governed, others, steady, Play(_overload(), _LATENCY).run())


_LATENCY = Targets(latency_ms=LATENCY_TARGET_MS)


def _coolings() -> List[Cooling]:
    return [Cooling(resistance, capacity) for resistance in RESISTANCES for capacity in CAPACITIES]


def _steady_site(air_c: float) -> Site:
    return Site(lambda second: air_c, lambda second: 30.0, length_s=STEADY_S)


def _overload() -> Site:
    """In the first and the last hour half the frames, in between more than the engine can do."""

    def camera_fps(second: float) -> float:
        return 30.0 if 3600 <= second < 7200 else 15.0

    return Site(lambda second: 20.0, camera_fps, OVERLOAD_CAMERAS, length_s=OVERLOAD_S)


def judge(result: report.Report, played: Played) -> None:
    """The figures and their bars."""
    fixed, governed = played.fixed, played.governed
    add = result.add
    add("throttled_s_fixed", fixed.throttled_s, "s", "slowed down by the kernel, without governor")
    never = report.Bar("<=", 0)
    add("throttled_s_governed", governed.throttled_s, "s", "the same with it", never)
    add("hottest_c_fixed", fixed.hottest_c, "°C", "the silicon, without governor")
    below = report.Bar("<=", THROTTLE_C)
    add("hottest_c_governed", governed.hottest_c, "°C", "the same with it", below)
    for key, day in (("fixed", fixed), ("governed", governed)):
        add(f"latency_ms_p95_{key}", day.latency_ms(0.95), "ms", "over the day")
        add(f"latency_ms_p99_{key}", day.latency_ms(0.99), "ms", "over the day")
    share = governed.inferred / fixed.inferred
    add("inferred_over_fixed", share, "of", "frames inferred: what the cool silicon cost")
    share = governed.priority_frames / fixed.priority_frames
    add("priority_over_fixed", share, "of", "the priority camera's frames", report.Bar(">=", 1))
    add("changes", len(governed.changes), "", "steps taken and given back in the day")
    add("deepest", governed.deepest, "", "steps at once")
    _judge_others(result, played)
    _judge_steady(result, played)
    _judge_overload(result, played.overload)


def _judge_others(result: report.Report, played: Played) -> None:
    if not played.others:
        return
    days = played.others.values()
    meaning = f"the worst of {len(days)} other coolings (resistance 0.9 to 1.2, mass 1/3 to 3)"
    never = report.Bar("<=", 0)
    result.add("throttled_s_other_cooling", max(d.throttled_s for d in days), "s", meaning, never)
    result.add("hottest_c_other_cooling", max(d.hottest_c for d in days), "°C", meaning)


def _judge_steady(result: report.Report, played: Played) -> None:
    days = played.steady
    never = report.Bar("<=", 0)
    turns = max(day.turns_after(SETTLED_S) for day in days.values())
    meaning = (
        "turns between shedding and giving back after the first of six hours in steady air, worst "
        f"of {len(days)}"
    )
    result.add("oscillation_steady", turns, "", meaning, never)
    late = max(day.changes_after(SETTLED_S) for day in days.values())
    result.add("late_changes_steady", late, "", "changes of any kind after that hour, worst")
    relapses = max(day.relapses() for day in days.values())
    meaning = "steps given back and taken again within half an hour, in steady air"
    result.add("relapses_steady", relapses, "", meaning, never)


def _judge_overload(result: report.Report, day: Day) -> None:
    engine = serve(30.0 * OVERLOAD_CAMERAS, 10.0, 1.0)
    meaning = f"{OVERLOAD_CAMERAS} cameras at 30 frames/s for an hour, without governor"
    result.add("overload_latency_ms_fixed", engine.latency_ms, "ms", meaning)
    meaning = f"of that hour above the target of {LATENCY_TARGET_MS:g} ms, with it"
    result.add("overload_late_s_governed", day.late_s, "s", meaning, report.Bar("<=", 600))
    result.add("overload_relapses", day.relapses(), "", "given back too early", report.Bar("<=", 0))
    meaning = "steps that hold an hour after the load has gone"
    result.add("overload_left", day.depth_at_end, "", meaning, report.Bar("<=", 0))


def steps(day: Day) -> List[str]:
    """Each change of a day in words."""
    lines = []
    for second, change in zip(day.changed_s, day.changes):
        step = change.step
        minute = int(second) // 60
        numbers = (step.after, step.before) if change.is_undone else (step.before, step.after)
        lines.append(
            f"{minute // 60:02d}:{minute % 60:02d} {'back' if change.is_undone else 'shed'} "
            f"{step.kind.value} {step.camera or 'of all'} {numbers[0]:g} to {numbers[1]:g}: "
            f"{change.reason}"
        )
    return lines


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
