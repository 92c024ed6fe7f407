"""What README and docs/ say of commands, keys, topics, alerts and exit codes is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import yaml

from edge.arguments import EXIT_CODES
from edge.cli import main, parser
from edge.config.alerts import AlertsConfig
from edge.config.load import load
from edge.config.reference import markdown
from edge.config.schema import Config
from edge.health.alert_rules import Situation, observe
from edge.publish.backlog import Loss
from edge.publish.outbox.entry import DropCause as OutboxDropCause
from edge.publish.schemas.channels import CHANNELS, Channel
from edge.records import CameraState, CameraStatus, DropCause

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}

# A fence, its language, and what it holds.
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|&& |[ /])edge(?::\S+)? ((?:[a-z]+)\b[^&]*)")
_KEY = re.compile(rf"(?<![\w./])(?:{'|'.join(Config.model_fields)})\.[a-z_]+(?:\.[a-z_]+)*")
_FILES = ("outbox.db", ".md", ".onnx", ".yaml")


def blocks(language: str) -> List[Any]:
    return [
        pytest.param(match.group(2), id=f"{page}:{text.count(chr(10), 0, match.start()) + 1}")
        for page, text in TEXTS.items()
        for match in _BLOCK.finditer(text)
        if match.group(1) == language
    ]


def typed_commands() -> Iterator[str]:
    """The arguments of each `edge …` that a block of shell lines holds."""
    for block in blocks("sh"):
        for line in str(block.values[0]).replace("\\\n", " ").splitlines():
            # What follows is a remark, or goes on behind a pipe.
            typed = re.split(r"\s#|\s\|", line)[0]
            for match in _COMMAND.finditer(typed):
                if match.group(1).split()[0] in VERBS:
                    yield match.group(1).strip()


VERBS = re.findall(r"^    ([a-z]+)  ", parser().format_help(), re.MULTILINE)
COMMANDS = list(typed_commands())
KEYS = frozenset(re.findall(r"^\| `([^`]+)` ", markdown().replace("[]", ""), re.MULTILINE))


def test_the_table_of_keys_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown()
    assert TEXTS["docs/configuration.md"] == printed, "edge schema --markdown writes it"


def test_the_table_has_every_key() -> None:
    text = markdown()
    for key in ("model.path", "cameras[].name", "mqtt.tls.ca_file", "health.alerts.disk.hold_s"):
        assert f"| `{key}` |" in text
    assert "| `mqtt.port` | whole number from 1 to 65535 | `1883` |" in text
    assert "| `health.alerts.clock` | section or `null` |" in text
    assert "| `mqtt.tls` | section |" in text


def test_the_readmes_configuration_can_be_used_as_it_is(tmp_path: Path) -> None:
    text = next(text for language, text in _BLOCK.findall(TEXTS["README.md"]) if language == "yaml")
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    config = load(path, {"INFEED_PASSWORD": "a", "MQTT_PASSWORD": "b"})
    assert [camera.name for camera in config.cameras] == ["infeed", "bench", "replay"]
    assert config.mqtt.tls is not None


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_snippet_has_keys_that_there_are(text: str) -> None:
    snippet: Dict[str, Any] = yaml.safe_load(text)
    camera = {"name": "a", "uri": "a.mp4"}
    Config.model_validate({"model": {"path": "a.onnx"}, "cameras": [camera], **snippet})


@pytest.mark.parametrize("typed", COMMANDS)
def test_every_command_line_is_understood(typed: str) -> None:
    parser().parse_args(shlex.split(typed))


def test_commands_were_found() -> None:
    found = {command.split()[0] for command in COMMANDS}
    assert found >= {"run", "check", "cameras", "build", "bench", "calibrate", "install"}


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_that_is_named_is_there(page: str) -> None:
    for code in _CODE.findall(TEXTS[page]):
        named = re.match(r"(?:sudo )?edge ([a-z]+)(?: |$)", code)  # not `edge run: a message`
        assert named is None or named.group(1) in VERBS, code


@pytest.mark.parametrize("page", TEXTS)
def test_every_key_that_is_named_is_there(page: str) -> None:
    for code in _CODE.findall(TEXTS[page]):
        for key in _KEY.findall(code.replace("[]", "")):
            assert key in KEYS or any(name in code for name in _FILES), key


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for link in _LINK.findall(TEXTS[page]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ROOT / page if not path else ((ROOT / page).parent / path).resolve()
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> List[str]:
    """As GitHub makes them of headings."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text("utf-8")))
    return [
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    ]


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: str(channel.name))
def test_every_topic_is_told(channel: Channel) -> None:
    address = channel.address.replace("{", "<").replace("}", ">").replace("<prefix>", "edge")
    levels = address.split("/")
    ways = (address, "/".join(levels[2:]), "…/" + "/".join(levels[-2:]))
    assert any(way in TEXTS["docs/mqtt.md"] for way in ways)


def test_every_exit_code_is_told() -> None:
    codes = re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)
    assert len(codes) >= 6
    for code in codes:
        assert re.search(rf"^\| {code} \|", TEXTS["docs/operation.md"], re.MULTILINE), code


def alerts() -> List[Tuple[str, str]]:
    camera = CameraStatus("CAMERA", CameraState.ONLINE, 0)
    numbers = dict.fromkeys(("throttled", "over_current"), 0.0)
    situation = Situation(numbers, [camera], latency_target_ms=1.0)
    return [
        (observation.rule.id.replace("CAMERA", "<camera>"), observation.rule.severity.value)
        for observation in observe(AlertsConfig(), situation)
    ]


@pytest.mark.parametrize(("alert", "severity"), alerts())
def test_every_alert_is_told(alert: str, severity: str) -> None:
    assert f"| `{alert}` | {severity} |" in TEXTS["docs/health.md"]


@pytest.mark.parametrize("cause", DropCause)
def test_every_cause_of_a_dropped_frame_is_told(cause: DropCause) -> None:
    assert f"`{cause.value}` (" in TEXTS["README.md"]


@pytest.mark.parametrize("cause", [*Loss, *OutboxDropCause])
def test_every_cause_of_a_lost_message_is_told(cause: object) -> None:
    assert f"\n| `{getattr(cause, 'value', '')}` |" in TEXTS["docs/mqtt.md"]
