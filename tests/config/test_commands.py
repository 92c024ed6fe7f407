from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from edge.config.commands import CommandsConfig, Verb
from edge.config.load import load
from edge.errors import ConfigError

HEAD = "model: {path: m.onnx}\ncameras: [{name: belt, uri: 'synthetic://1'}]\n"


def loaded(folder: Path, commands: str) -> CommandsConfig:
    path = folder / "c.yaml"
    path.write_text(f"{HEAD}commands: {commands}\n")
    return load(path, {}).commands


def test_nothing_is_allowed_by_itself() -> None:
    assert CommandsConfig().allow == []


def test_what_is_allowed_is_listed(tmp_path: Path) -> None:
    config = loaded(tmp_path, "{allow: [reload, restart], per_minute: 5}")
    assert config == CommandsConfig(allow=[Verb.RELOAD, Verb.RESTART], per_minute=5)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        pytest.param("{allow: [reboot]}", ["commands.allow[0]: must be 'snapshot'"], id="verb"),
        pytest.param("{allow: restart}", ["commands.allow: must be a list"], id="no list"),
        pytest.param("{allow: [], per_minute: 0}", ["must be at least 1"], id="none a minute"),
        pytest.param("{per_minute: 601}", ["must be at most 600"], id="many a minute"),
        pytest.param("{alow: []}", ["unknown key, did you mean 'allow'?"], id="key"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, commands: str, words: List[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, commands)
    for part in words:
        assert part in str(caught.value)
