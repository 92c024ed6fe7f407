"""What each number of a health message means, for its JSON Schema."""

from __future__ import annotations

from typing import Any, Dict

_DURATIONS = {
    "capture_to_batch_ms": "Capture of a frame to the leaving of its batch",
    "infer_ms": "Detector's time for a batch",
    "post_ms": "Detector's end to a frame's result",
    "latency_ms": "Capture to result",
}

METRICS = {
    # the pipeline
    "batches_total": "Batches inferred since the start, of both lanes.",
    "batch_avg": "Frames per batch since the start, priority frames included.",
    "batch_fill": "Share of the rows that the targets offered which carried a frame, 0 to 1, since "
    "the start; priority frames do not count.",
    "batch_target": "Frames at which a batch leaves at once, before live tuning.",
    "batch_window_ms": "Longest wait of a batch's first frame for more, before live tuning; the "
    "governor may have lengthened it.",
    "tuned_target": "Frames at which a batch leaves at once at present; at most what the cameras "
    "can fill. Absent without batching.tune.",
    "tuned_window_ms": "Longest wait at present. Absent without batching.tune.",
    "tune_changes_total": "How often live tuning has changed target or window.",
    "queue_depth": "Batches taken by the detector and not yet told: queued, running, or waiting to "
    "be handed on.",
    "infer_busy_pct": "Share of the last 5 s that the detector was at work.",
    **{
        f"{key}_p{percent}": f"{what}: {percent} of 100 took no longer in the last 15 to 30 s."
        for key, what in _DURATIONS.items()
        for percent in (50, 95, 99)
    },
    "frames_inferred_total": "Frames that have a result.",
    "detections_total": "Objects told.",
    "saturated_frames_total": "Frames with more candidates than model.max_candidates.",
    # the cameras
    "cameras": "Cameras in the configuration.",
    "cameras_online": "Cameras that deliver.",
    "read_fps": "Frames per second read, all cameras together, over the last 5 s.",
    "infer_fps": "Frames per second inferred, all cameras together, over the last 5 s.",
    "publish_fps": "Frames per second whose detections were handed to MQTT, over the last 5 s.",
    "deadline_missed_total": "Results later than their camera's deadline_ms.",
    "frames_read_total": "Frames that the cameras delivered.",
    "reconnects_total": "How often a camera came back after it was lost.",
    "frames_dropped_total": "Frames read but not told, of every cause.",
    "frames_dropped_superseded_total": "A newer frame of the same camera took its place.",
    "frames_dropped_stale_total": "Older than the camera's max_staleness_ms.",
    "frames_dropped_rate_cap_total": "Above the camera's fps.",
    "frames_dropped_governed_total": "Above what the governor lets through.",
    "frames_dropped_aborted_total": "It could not be drawn, or the daemon stopped or failed.",
    # what was done about it
    "alerts": "Alerts that stand.",
    "governor_steps": "Steps by which the governor sheds load at present.",
    "governor_changes_total": "How often the governor took a step or gave one back.",
    # the broker
    "mqtt_connected": "1 while the broker is connected, else 0.",
    "mqtt_published_total": "Messages handed to the broker.",
    "mqtt_published_per_s": "Messages handed to the broker per second, over the last 5 s.",
    "mqtt_queued": "Messages that wait for the broker in memory alone.",
    "mqtt_spool_msgs": "Messages in the outbox, which the broker has not acknowledged.",
    "mqtt_dropped_total": "Messages that were not handed over, of every cause.",
    # commands; absent where none are allowed
    "commands_done_total": "Requests that were carried out.",
    "commands_refused_total": "Requests of which nothing was done.",
    "commands_failed_total": "Requests that were tried in vain.",
    "commands_repeated_total": "Requests that came more than once, and were carried out once.",
    "commands_retained_total": "Requests ignored because the broker retained them.",
    # the machine
    "health_age_ms": "How old the readings of `source` are.",
    "cpu_load_pct": "Busy share of all cores, 0 to 100, since the reading before.",
    "gpu_load_pct": "Busy share of the GPU, 0 to 100.",
    "gpu_freq_mhz": "Clock of the GPU, of its fastest cluster.",
    "gpu_mem_used_mb": "Memory the GPU holds, of a Jetson's common memory or of the card, MiB.",
    "gpu_mem_total_mb": "Memory of the graphics card, MiB.",
    "emc_load_pct": "Used share of the memory's bandwidth at its present clock, 0 to 100.",
    "emc_freq_mhz": "Clock of the memory.",
    "ram_used_mb": "Memory in use without page cache, MiB.",
    "ram_total_mb": "Memory of the machine, MiB.",
    "ram_lfb_mb": "Largest block of memory that is free in one piece, at most 4, MiB.",
    "ram_lfb_blocks": "How many blocks of that size are free.",
    "swap_used_mb": "Swap in use, MiB.",
    "swap_total_mb": "Swap of the machine, MiB.",
    "power_total_mw": "What the module draws: its input where that is measured, else all rails.",
    "fan_pct": "Speed asked of the fan, 0 to 100.",
    "fan_rpm": "Turns of the fan per minute.",
    "nvpmodel_id": "Number of the power mode.",
    "jetson_clocks": "1 where the clocks of CPU and GPU are locked, else 0.",
    "throttled": "1 while the machine slows itself down for heat, else 0.",
    "over_current": "1 where a rail is above its limit, or was since the reading before, else 0.",
    "over_current_total": "Over-current and under-voltage events since the machine started.",
    "disk_free_mb": "Free space beside device.state_dir, MiB.",
    "uptime_s": "Seconds since the machine started.",
    "process_rss_mb": "Memory of the daemon, MiB.",
    "process_cpu_pct": "Load of the daemon in percent of one core: 200 is two cores busy.",
    "process_threads": "Threads of the daemon.",
    "process_fds": "Files and sockets that the daemon has open.",
}
"""Descriptions by key."""

METRIC_FAMILIES = {
    r"^cpu_[0-9]+_load_pct$": "Busy share of one core, 0 to 100; absent while it is off.",
    r"^.+_freq_mhz$": "Clock of a core or of a unit of the chip; absent while it is off.",
    r"^power_.+_mw$": "What a rail of the board draws.",
    r"^temp_.+_c$": "Temperature of a part of the machine in degrees Celsius.",
    r"^mqtt_dropped_.+_total$": "Messages that were not handed over, by cause.",
}
"""Descriptions by the pattern of a key, where the machine decides which there are."""


def describe_metrics(schema: Dict[str, Any]) -> None:
    """Adds every known number to a message's JSON Schema, and lets any other appear."""
    schema["properties"].update({key: _number(words) for key, words in METRICS.items()})
    schema["patternProperties"] = {key: _number(words) for key, words in METRIC_FAMILIES.items()}
    schema["additionalProperties"] = {"type": "number"}


def _number(description: str) -> Dict[str, Any]:
    return {"type": "number", "description": description}
