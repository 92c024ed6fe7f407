"""The broker's section: secrets in files, passwords in the clear, certificates, defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from edge.config.load import load
from edge.config.mqtt import MqttConfig, MqttVersion, TlsVersion, is_loopback
from edge.config.schema import Config
from edge.errors import ConfigError

HEAD = "model: {path: model.onnx}\ncameras: [{name: dock, uri: dock.mp4}]\nmqtt:\n"

Load = Callable[..., Config]


@pytest.fixture
def mqtt(tmp_path: Path) -> Callable[..., MqttConfig]:
    """Reads a section of which each argument is a line."""

    def read(*lines: str, **environ: str) -> MqttConfig:
        path = tmp_path / "config.yaml"
        path.write_text(HEAD + "".join(f"  {line}\n" for line in lines))
        return load(path, environ).mqtt

    return read


@pytest.fixture
def faults(mqtt: Callable[..., MqttConfig], tmp_path: Path) -> Callable[..., List[str]]:
    def read(*lines: str, **environ: str) -> List[str]:
        with pytest.raises(ConfigError) as caught:
            mqtt(*lines, **environ)
        return str(caught.value).replace(f"{tmp_path}/config.yaml:", "").splitlines()

    return read


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        pytest.param({}, 1883, id="plain"),
        pytest.param({"tls": {}}, 8883, id="tls"),
        pytest.param({"tls": {}, "port": 1883}, 1883, id="said goes first"),
        pytest.param({"port": 8884}, 8884, id="said, plain"),
    ],
)
def test_the_port_is_the_protocols_own_unless_said(settings: Dict[str, Any], port: int) -> None:
    config = MqttConfig.model_validate({"host": "b", **settings})
    assert config.tcp_port == port
    assert config.broker == f"b:{port}"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.5", False),
        ("::2", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_what_is_this_machine_itself(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


PLAIN = ("host: 10.0.0.5", "username: nx", "password: right")


def test_a_password_does_not_travel_in_the_clear(faults: Callable[..., List[str]]) -> None:
    assert faults(*PLAIN) == [
        "6:3 mqtt.password: would travel to 10.0.0.5 for all to read: set mqtt.tls, or, on a "
        "network that is yours alone, mqtt.allow_plaintext_password: true"
    ]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((*PLAIN, "tls: {}"), id="over TLS"),
        pytest.param(("host: 127.0.0.1", *PLAIN[1:]), id="to this machine"),
        pytest.param((*PLAIN, "allow_plaintext_password: yes"), id="told so"),
        pytest.param(PLAIN[:2], id="a name alone is no secret"),
    ],
)
def test_where_a_password_may_travel(mqtt: Callable[..., MqttConfig], lines: List[str]) -> None:
    assert mqtt(*lines).username == "nx"


def test_user_and_password_come_from_files(mqtt: Callable[..., MqttConfig], tmp_path: Path) -> None:
    (tmp_path / "user").write_text("nx\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "mqtt").write_bytes(b" p\xc3\xa4ss \r\nsecond line")
    config = mqtt(
        "username_file: user",
        "password_file: ${CREDENTIALS_DIRECTORY}/mqtt",
        CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"),
    )
    assert config.username == "nx"
    assert config.password is not None
    assert config.password.get_secret_value() == " päss "
    assert "päss" not in repr(config)


def test_certificates_are_found_from_the_file_and_not_opened(
    mqtt: Callable[..., MqttConfig], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("opens")
    tls = mqtt(
        "tls: {ca_file: ca.pem, certificate_file: /etc/nx.pem, key_password_file: secret,"
        " min_version: 1.3}"
    ).tls
    assert tls is not None
    assert (tls.ca_file, tls.certificate_file) == (tmp_path / "ca.pem", Path("/etc/nx.pem"))
    assert tls.key_password is not None
    assert tls.key_password.get_secret_value() == "opens"
    assert tls.min_version is TlsVersion.V1_3
    assert tls.check_hostname


def test_versions(mqtt: Callable[..., MqttConfig]) -> None:
    assert mqtt("version: 5").version is MqttVersion.V5
    assert mqtt("version: 3.1.1").version is MqttVersion.V3_1_1


FAULTS = {
    "no such version": (["version: 4"], "4:3 mqtt.version: must be '3.1.1' or '5' (got 4)"),
    "tls without a word": (
        ["tls:"],
        "4:3 mqtt.tls: is empty: write `tls: {}` to trust the system's authorities",
    ),
    "tls is no switch": (["tls: yes"], "4:3 mqtt.tls: must be a map of keys (got 'yes')"),
    "old tls": (
        ["tls: {min_version: 1.1}"],
        "4:9 mqtt.tls.min_version: must be '1.2' or '1.3' (got 1.1)",
    ),
    "password without user": (
        ["password: p"],
        "4:3 mqtt.password: is given without mqtt.username, and would never be sent",
    ),
    "password of a file without user": (
        ["password_file: p"],
        "4:3 mqtt.password_file: is given without mqtt.username, and would never be sent",
    ),
    "password twice": (
        ["username: u", "password: p", "password_file: f"],
        "6:3 mqtt.password_file: is given beside mqtt.password: leave one of them out",
    ),
    "user twice": (
        ["username: u", "username_file: f"],
        "5:3 mqtt.username_file: is given beside mqtt.username: leave one of them out",
    ),
    "key password twice": (
        ["tls: {certificate_file: c, key_password: p, key_password_file: f}"],
        "mqtt.tls.key_password_file: is given beside mqtt.tls.key_password: leave one of them out",
    ),
    "key without certificate": (
        ["tls:", "  key_file: k"],
        "5:5 mqtt.tls.key_file: is given without mqtt.tls.certificate_file, whose key it is",
    ),
    "file in the clear": (
        ["host: b", "username: u", "password_file: f"],
        "6:3 mqtt.password_file: would travel to b for all to read",
    ),
    "no such file": (
        ["username: u", "password_file: absent"],
        "5:3 mqtt.password_file: 'absent' cannot be read: No such file or directory",
    ),
    "no path": (["username_file: ''"], "4:3 mqtt.username_file: must not be empty"),
    "empty file": (
        ["username_file: blank"],
        "4:3 mqtt.username_file: 'blank' must hold the value in its first line",
    ),
    "not text": (["username_file: binary"], "4:3 mqtt.username_file: 'binary' is not UTF-8 text"),
    "NUL": (["username_file: nul"], "'nul' must hold the value in its first line"),
    "a folder": (["username_file: ."], "mqtt.username_file: '.' cannot be read: Is a directory"),
}


@pytest.mark.parametrize(("lines", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_says_where_and_what_to_do(
    faults: Callable[..., List[str]], tmp_path: Path, lines: List[str], expected: str
) -> None:
    (tmp_path / "blank").write_bytes(b"\nsecret")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "nul").write_bytes(b"a\0b")
    assert any(expected in line for line in faults(*lines)), faults(*lines)


def test_a_secret_that_was_put_where_a_path_belongs_is_not_told(
    faults: Callable[..., List[str]],
) -> None:
    (line,) = faults("username: u", "password_file: ${PW}", PW="hunter2")
    assert line == "5:3 mqtt.password_file: cannot be read: No such file or directory"
