"""From a message to a request, or to the words why it is none."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, NoReturn, Optional

from pydantic import ValidationError
from pydantic_core import from_json

from edge.commands.refusal import Refused
from edge.config.commands import Verb
from edge.config.faults import printable
from edge.records.commands import (
    REQUESTS,
    Disable,
    Enable,
    Inbound,
    Prioritize,
    Request,
    Setting,
    Threshold,
)

# No request is longer; more is not even read.
MAX_PAYLOAD_BYTES = 4096
_FAULTS_SHOWN = 3

_ON_OFF = {"on": True, "true": True, "off": False, "false": False}

Keys = Mapping[str, Any]


def parse(message: Inbound) -> Request:
    """What is asked for on `cmd/<verb>` or `camera/<camera>/<key>/set`. Raises Refused."""
    if len(message.payload) > MAX_PAYLOAD_BYTES:
        raise Refused(f"the request is longer than {MAX_PAYLOAD_BYTES} bytes")
    levels = message.topic.split("/")
    if len(levels) == 2 and levels[0] == "cmd":
        return _command(levels[1], message.payload)
    if len(levels) == 4 and levels[0] == "camera" and levels[3] == "set":
        return _setting(levels[1], levels[2], message.payload)
    raise Refused("nothing can be asked for on this topic")


def _command(name: str, payload: bytes) -> Request:
    try:
        verb = Verb(name)
    except ValueError as error:
        known = ", ".join(verb.value for verb in Verb)
        raise Refused(f"there is no such command; there are: {known}") from error
    keys = _object(payload, verb)
    request_id = _id_in(keys)
    try:
        request = REQUESTS[verb].model_validate(keys)
    except ValidationError as error:
        raise Refused(_faults(error, verb), verb, request_id) from error
    if request.id is None:
        raise Refused(
            "id is required: any text of up to 64 characters, new for every request", verb
        )
    return request


def _object(payload: bytes, verb: Verb) -> Keys:
    try:
        keys = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(f"the request is not JSON: {error}", verb) from error
    if not isinstance(keys, dict):
        raise Refused('the request is no JSON object; for example {"id": "1"}', verb)
    return keys


def _id_in(keys: Keys) -> Optional[str]:
    """The id to answer to, if it can be one, whatever else is wrong."""
    request_id = keys.get("id")
    return request_id if isinstance(request_id, str) and 0 < len(request_id) <= 64 else None


def _faults(error: ValidationError, verb: Verb) -> str:
    words = list(_fault_words(error, verb))
    more = len(words) - _FAULTS_SHOWN
    return "; ".join(words[:_FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _fault_words(error: ValidationError, verb: Verb) -> Iterator[str]:
    fields = REQUESTS[verb].model_fields.items()
    allowed = ", ".join(field.alias or name for name, field in fields)
    own_words = {"missing": "is required", "extra_forbidden": f"unknown key (allowed: {allowed})"}
    for fault in error.errors(include_url=False, include_input=False):
        key = ".".join(map(str, fault["loc"]))
        yield f"{printable(key[:64])}: {own_words.get(fault['type'], fault['msg'])}"


# --- settings ---------------------------------------------------------------------------------


def _setting(camera: str, key: str, payload: bytes) -> Request:
    try:
        make = _SETTERS[Setting(key)]
    except ValueError as error:
        known = ", ".join(setting.value for setting in Setting)
        raise Refused(f"there is no such setting; there are: {known}", camera=camera) from error
    try:
        return make(camera, payload)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise Refused(f"{fault['loc'][0]}: {fault['msg']}", camera=camera) from error


def _enabled(camera: str, payload: bytes) -> Request:
    return Enable(camera=camera) if _truth(camera, payload) else Disable(camera=camera)


def _priority(camera: str, payload: bytes) -> Request:
    return Prioritize(camera=camera, priority=_truth(camera, payload))


def _score_threshold(camera: str, payload: bytes) -> Request:
    try:
        score = from_json(payload, allow_inf_nan=False)
    except ValueError:
        _refuse_value(camera, payload, "a number from 0 to 1")
    return Threshold(camera=camera, score=score)


_SETTERS: Dict[Setting, Callable[[str, bytes], Request]] = {
    Setting.ENABLED: _enabled,
    Setting.PRIORITY: _priority,
    Setting.SCORE_THRESHOLD: _score_threshold,
}


def _truth(camera: str, payload: bytes) -> bool:
    value = _ON_OFF.get(payload.decode("utf-8", "replace").strip().lower())
    if value is None:
        _refuse_value(camera, payload, "ON or OFF")
    return value


def _refuse_value(camera: str, payload: bytes, wanted: str) -> NoReturn:
    given = payload[:40].decode("utf-8", "replace")
    raise Refused(f"the value must be {wanted} (got {given!r})", camera=camera)
