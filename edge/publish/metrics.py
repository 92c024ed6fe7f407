"""What each number of a health message means, for its JSON Schema."""

from __future__ import annotations

from typing import Any, Dict

METRICS = {
    # the pipeline
    "batches_total": "Batches inferred since the start, of both lanes.",
    "batch_avg": "Frames per batch since the start, priority frames included.",
    "batch_fill": "Share of the rows that the targets offered which carried a frame, 0 to 1, since "
    "the start; priority frames do not count.",
    "batch_target": "Frames at which a batch leaves at once, before live tuning.",
    "batch_window_ms": "Longest wait of a batch's first frame for more, before live tuning.",
    "tuned_target": "Frames at which a batch leaves at once at present; at most what the cameras "
    "can fill. Absent without batching.tune.",
    "tuned_window_ms": "Longest wait at present. Absent without batching.tune.",
    "tune_changes_total": "How often live tuning has changed target or window.",
    "queue_depth": "Batches taken by the detector and not yet told: queued, running, or waiting to "
    "be handed on.",
    "infer_ms_p50": "Detector's time for a batch, median of the last 2048.",
    "infer_ms_p99": "Detector's time for a batch, 99 of 100 of the last 2048 took no longer.",
    "latency_ms_p50": "Capture to result, median of the last 2048 frames.",
    "latency_ms_p99": "Capture to result, 99 of 100 of the last 2048 frames took no longer.",
    "frames_inferred_total": "Frames that have a result.",
    "detections_total": "Objects told.",
    "saturated_frames_total": "Frames with more candidates than model.max_candidates.",
    # the cameras
    "cameras": "Cameras in the configuration.",
    "cameras_online": "Cameras that deliver.",
    "read_fps": "Frames per second read, all cameras together, over the last 5 s.",
    "infer_fps": "Frames per second inferred, all cameras together, over the last 5 s.",
    "deadline_missed_total": "Results later than their camera's deadline_ms.",
    "frames_read_total": "Frames that the cameras delivered.",
    "reconnects_total": "How often a camera came back after it was lost.",
    "frames_dropped_total": "Frames read but not told, of every cause.",
    "frames_dropped_superseded_total": "A newer frame of the same camera took its place.",
    "frames_dropped_stale_total": "Older than the camera's max_staleness_ms.",
    "frames_dropped_rate_cap_total": "Above the camera's fps.",
    "frames_dropped_aborted_total": "It could not be drawn, or the daemon stopped or failed.",
    # the broker
    "mqtt_connected": "1 while the broker is connected, else 0.",
    "mqtt_published_total": "Messages handed to the broker.",
    "mqtt_queued": "Messages that wait for the broker.",
    "mqtt_dropped_total": "Messages that were not handed over, of every cause.",
    # the machine
    "cpu_load_pct": "Busy share of all cores, 0 to 100, since the message before.",
    "ram_used_mb": "Memory in use without page cache, MiB.",
    "ram_total_mb": "Memory of the machine, MiB.",
    "swap_used_mb": "Swap in use, MiB.",
    "swap_total_mb": "Swap of the machine, MiB.",
    "disk_free_mb": "Free space beside device.state_dir, MiB.",
    "uptime_s": "Seconds since the machine started.",
    "process_rss_mb": "Memory of the daemon, MiB.",
    "process_cpu_pct": "Load of the daemon in percent of one core: 200 is two cores busy.",
    "process_threads": "Threads of the daemon.",
    "process_fds": "Files and sockets that the daemon has open.",
}
"""Descriptions by key."""

METRIC_FAMILIES = {
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
