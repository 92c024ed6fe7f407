"""Compares ways to batch twenty unlike cameras: the daemon's own scheduler in simulated time.

Mailboxes, lanes, policy, slots and queue are the product's; the engine is simulated
(`--base-ms`, `--frame-ms`), so the figures are the same on every machine. Three loads are
played, by the share of its time that the engine would need for full batches: below, near and
above saturation. A wait is the time from a frame's arrival in its mailbox to its dispatch.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, Iterable, List, Optional, Sequence

from benchmarks import report
from benchmarks.load_step import TUNED, Phases, Timing, best_fixed, play_step
from benchmarks.outcome import Outcome, measure
from benchmarks.scenario import cameras, rates_at_load
from benchmarks.simulation import EngineCost, Setup, SimulatedCamera, Simulation
from edge.batching.policy import BatchPolicy, Decision, Rider
from edge.clock import NS_PER_S
from edge.config.schema import BatchingConfig, Window

SHARED_CAMERAS = 19
TARGET = 8
LOADS = {"below": 0.6, "near": 0.95, "above": 1.5}
WINDOWS_MS = (2, 5, 10, 15, 20, 30, 40, 50)
LIMITS_MS = (10, 50)
"""The deadlines that `auto` is judged at: the default and the longest of the sweep."""

WARM_UP_S = 3.0
FILL_BAR = report.Bar(">=", 0.95)

Runs = Dict[str, Dict[str, Outcome]]
"""Outcomes by load, then by policy."""


class WaitForAll(BatchPolicy):
    """A baseline: a batch leaves when every camera has a frame in it, however long that takes."""

    def decide(
        self,
        riders: Sequence[Rider],
        opened_ns: int,
        waiting: Iterable[Rider],
        can_take: bool,
        now_ns: int,
    ) -> Decision:
        """Closes only a slot that holds as many frames as there are cameras."""
        return Decision(close=can_take and len(riders) == SHARED_CAMERAS + 1)


class SchedulerReport(report.Report):
    """The figures, and a table of all policies at all loads."""

    runs: Runs
    step: Dict[str, Phases]

    def as_json(self) -> Dict[str, Any]:
        """With every outcome under `runs` and `step`."""
        runs = {
            load: [outcome.as_json() for outcome in by_policy.values()]
            for load, by_policy in self.runs.items()
        }
        step = [
            {"before": phases.before.as_json(), "after": phases.after.as_json()}
            for phases in self.step.values()
        ]
        return {**super().as_json(), "runs": runs, "step": step}

    def table(self) -> str:
        """With the policies first."""
        return "\n".join([*policy_table(self.runs), *step_table(self.step), "", super().table()])


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Plays the scenario under every policy and reports."""
    parser = report.argument_parser(__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of jitter and pauses (default 1)")
    parser.add_argument("--base-ms", type=float, default=6.0, help="engine time of any batch")
    parser.add_argument("--frame-ms", type=float, default=2.2, help="engine time of each frame")
    options = parser.parse_args(arguments)
    cost = EngineCost(options.base_ms, options.frame_ms)
    seconds = 5.0 if options.quick else 45.0
    result = SchedulerReport("scheduler", options)
    result.runs = {}
    for name, load in LOADS.items():
        rates = rates_at_load(load, TARGET, SHARED_CAMERAS, cost)
        result.runs[name] = play(
            setups(WINDOWS_MS[::4] if options.quick else WINDOWS_MS),
            cameras(rates, seconds, options.seed),
            cost,
            seconds,
        )
        print(f"{name}: {sum(rates):.0f} frames/s offered", file=sys.stderr, flush=True)
    timing = Timing(8.0, 19.0, is_quick=True) if options.quick else Timing(20.0, 45.0)
    result.step = play_step(cost, timing, options.seed)
    judge(result, cost)
    judge_step(result)
    compare(result)
    result.publish()


def setups(windows_ms: Sequence[int]) -> Dict[str, Setup]:
    """Every policy by its name."""
    every = {f"fixed {ms} ms": _ours(ms, Window.FIXED) for ms in (*windows_ms, *LIMITS_MS)}
    every.update({f"auto {ms} ms": _ours(ms, Window.AUTO) for ms in LIMITS_MS})
    one = BatchingConfig(target=1, max_wait_ms=0)
    every["batch-1 round robin"] = Setup(one, priority=False)
    of_all = BatchingConfig(target=SHARED_CAMERAS + 1, max_wait_ms=0)
    every["wait for all"] = Setup(of_all, WaitForAll, priority=False)
    return every


def play(
    every: Dict[str, Setup], seen: Sequence[SimulatedCamera], cost: EngineCost, seconds: float
) -> Dict[str, Outcome]:
    """The same frames under every policy, by name."""
    outcomes = {}
    for name, setup in every.items():
        simulation = Simulation(setup, seen, cost)
        until_ns = int(seconds * NS_PER_S)
        simulation.run(until_ns)
        outcomes[name] = measure(name, simulation, int(WARM_UP_S * NS_PER_S), until_ns)
    return outcomes


def judge(result: SchedulerReport, cost: EngineCost) -> None:
    """Holds `auto` against the best fixed window that keeps the same deadline, at every load.

    Keys without a deadline are those of the longest one; each is the worst of the three loads.
    """
    for limit_ms in LIMITS_MS:
        suffix = "" if limit_ms == max(LIMITS_MS) else f"_{limit_ms}ms"
        auto = {load: outcomes[f"auto {limit_ms} ms"] for load, outcomes in result.runs.items()}
        fill = min(auto[load].fill / best_fixed_fill(result.runs[load], limit_ms) for load in auto)
        meaning = f"auto's fill over the best fixed window's up to {limit_ms} ms, worst load"
        result.add(f"fill_auto_over_best_fixed{suffix}", fill, "of", meaning, FILL_BAR)
        bound_ms = limit_ms + cost.infer_ms(TARGET)
        result.add(f"p99_wait_bound_ms{suffix}", bound_ms, "ms", "the deadline plus one batch")
        for load, outcome in auto.items():
            _judge_wait(result, f"p99_wait_ms{suffix}_{load}", outcome, bound_ms)
        if not suffix:
            _judge_worst(result, list(auto.values()), bound_ms)


def judge_step(result: SchedulerReport) -> None:
    """Holds live tuning against the best of the fixed settings."""
    tuned, best = result.step[TUNED], best_fixed(result.step)
    ratio = tuned.after.throughput_fps / best.after.throughput_fps
    meaning = f"throughput from 10 s after the step on, over {best.after.policy}"
    result.add("tuned_over_best_fixed_after_step", ratio, "of", meaning, FILL_BAR)
    for key, phases in (("tuned", tuned), ("best_fixed", best)):
        for when, outcome in (("before", phases.before), ("after", phases.after)):
            meaning = f"{outcome.policy}: {outcome.throughput_fps:.0f} frames/s {when} the step"
            result.add(f"{key}_p99_latency_ms_{when}_step", outcome.p99_latency_ms, "ms", meaning)


def best_fixed_fill(outcomes: Dict[str, Outcome], limit_ms: float) -> float:
    """The best fill of a fixed window no longer than the limit."""
    fixed = {ms: outcomes.get(f"fixed {ms} ms") for ms in WINDOWS_MS if ms <= limit_ms}
    return max(outcome.fill for outcome in fixed.values() if outcome is not None)


def compare(result: SchedulerReport) -> None:
    """The daemon's scheduler beside the two that people write first."""
    for load, outcomes in result.runs.items():
        ours = outcomes[f"auto {min(LIMITS_MS)} ms"]
        for key, name in (("batch1", "batch-1 round robin"), ("wait_for_all", "wait for all")):
            ratio = ours.throughput_fps / outcomes[name].throughput_fps
            meaning = f"frames inferred, auto {min(LIMITS_MS)} ms over {name}"
            result.add(f"throughput_over_{key}_{load}", ratio, "times", meaning)


def policy_table(runs: Runs) -> List[str]:
    """All outcomes, one line each."""
    lines = []
    for load, outcomes in runs.items():
        offered = next(iter(outcomes.values())).offered_fps
        lines += [
            f"{load} saturation: {offered:.0f} frames/s offered",
            f"  {'policy':<20} {'fps':>6} {'fill':>5} {'wait p50':>9} {'p99 ms':>7} "
            f"{'late':>6} {'dropped':>7} {'jain':>6} {'gap s':>6} {'prio p50':>9} {'p99 ms':>7}",
        ]
        lines += [_row(outcome) for outcome in outcomes.values()]
    return lines


def step_table(step: Dict[str, Phases]) -> List[str]:
    """Every setting before and after the step."""
    lines = [
        "all cameras step from 5 to 30 frames/s: before, and from 10 s after",
        f"  {'setting':<20} {'fps':>6} {'batch':>6} {'latency p50':>12} {'p99 ms':>7}   "
        f"{'fps':>6} {'batch':>6} {'latency p50':>12} {'p99 ms':>7}",
    ]
    for name, phases in step.items():
        lines.append(f"  {name:<20} {_phase(phases.before)}   {_phase(phases.after)}")
    return lines


def _phase(outcome: Outcome) -> str:
    return (
        f"{outcome.throughput_fps:>6.1f} {outcome.batch_mean:>6.2f} "
        f"{outcome.p50_latency_ms:>12.1f} {outcome.p99_latency_ms:>7.1f}"
    )


def _ours(max_wait_ms: float, window: Window) -> Setup:
    return Setup(BatchingConfig(target=TARGET, max_wait_ms=max_wait_ms, window=window))


def _judge_wait(result: SchedulerReport, key: str, outcome: Outcome, bound_ms: float) -> None:
    bar = report.Bar("<=", bound_ms)
    result.add(key, outcome.p99_wait_ms, "ms", f"{outcome.policy}, arrival to dispatch", bar)
    if bar.verdict(outcome.p99_wait_ms) == "MISS":
        result.note(
            f"{key}: {outcome.offered_fps:.0f} frames/s are offered and "
            f"{outcome.throughput_fps:.0f} served, in slots of {TARGET} rows; a camera that finds "
            "the open slot full waits for the next one, which no window can shorten"
        )


def _judge_worst(result: SchedulerReport, outcomes: Sequence[Outcome], bound_ms: float) -> None:
    bar = report.Bar("<=", bound_ms)
    worst_ms = max(outcome.p99_wait_ms for outcome in outcomes)
    result.add("p99_wait_ms", worst_ms, "ms", "the worst of the three", bar)
    fairness = min(outcome.jain for outcome in outcomes)
    result.add("jain", fairness, "", "Jain's index of inferred over offered, worst load")
    gap_s = max(outcome.starvation_max_s for outcome in outcomes)
    meaning = "the longest a camera went without a frame inferred, its own pauses included"
    result.add("starvation_max_s", gap_s, "s", meaning)
    for key, of_loads in (
        ("priority_p50_ms", [outcome.priority_p50_ms for outcome in outcomes]),
        ("priority_p99_ms", [outcome.priority_p99_ms for outcome in outcomes]),
    ):
        slowest_ms = max(ms for ms in of_loads if ms is not None)
        result.add(key, slowest_ms, "ms", "a priority frame's arrival to result, worst load")


def _row(outcome: Outcome) -> str:
    prompt = f"{outcome.priority_p50_ms or 0:>9.1f} {outcome.priority_p99_ms or 0:>7.1f}"
    return (
        f"  {outcome.policy:<20} {outcome.throughput_fps:>6.1f} {outcome.fill:>5.2f} "
        f"{outcome.p50_wait_ms:>9.1f} {outcome.p99_wait_ms:>7.1f} {outcome.deadline_missed:>6} "
        f"{sum(outcome.drops.values()):>7} {outcome.jain:>6.3f} {outcome.starvation_max_s:>6.2f} "
        f"{prompt}"
    )


if __name__ == "__main__":
    main()
