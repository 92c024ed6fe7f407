"""What stands for a Jetson's elements on any other machine: by name, and only here."""

from __future__ import annotations

from typing import Callable, Dict, Iterator, Mapping, Tuple

from edge.capture.pipelines import Pipeline, Stage

Properties = Tuple[Tuple[str, str], ...]

# nvvidconv's flip-method as videoflip's video-direction: r is clockwise.
_DIRECTIONS = {"1": "90l", "2": "180", "3": "90r"}


def _converter(properties: Properties) -> Pipeline:
    flip = dict(properties).get("flip-method")
    turn = () if flip is None else (Stage("videoflip", (("video-direction", _DIRECTIONS[flip]),)),)
    return (Stage("videoconvert"), *turn, Stage("videoscale", (("add-borders", "false"),)))


SUBSTITUTES: Mapping[str, Callable[[Properties], Pipeline]] = {
    "nvv4l2decoder": lambda properties: (Stage("decodebin"),),
    "nvvidconv": _converter,
}


def in_software(pipeline: Pipeline, pattern: str = "smpte") -> Pipeline:
    """The same pipeline for a machine without Jetson and camera.

    Cameras become test pictures of `pattern`; what a USB camera would compress is compressed.
    """
    source: Pipeline = (Stage("videotestsrc", (("is-live", "true"), ("pattern", pattern))),)
    if any(stage.name == "image/jpeg" for stage in pipeline):
        source += (*(_raw(stage) for stage in pipeline if stage.name == "image/jpeg"),)
        source += (Stage("jpegenc"),)
    cameras: Dict[str, Pipeline] = {"nvarguscamerasrc": source, "v4l2src": source}
    return tuple(_replaced(pipeline, cameras))


def _replaced(pipeline: Pipeline, cameras: Mapping[str, Pipeline]) -> Iterator[Stage]:
    for stage in pipeline:
        if stage.name in cameras:
            yield from cameras[stage.name]
        elif stage.name in SUBSTITUTES:
            yield from SUBSTITUTES[stage.name](stage.properties)
        else:
            yield Stage(stage.name.replace("(memory:NVMM)", ""), stage.properties)


def _raw(jpeg: Stage) -> Stage:
    return Stage("video/x-raw", (("format", "I420"), *jpeg.properties))
