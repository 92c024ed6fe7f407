"""TLS and passwords at real brokers with real certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from edge.clock import SystemClock
from edge.config.mqtt import MqttConfig, TlsConfig
from edge.errors import BrokerRefuses, ConfigError, PublishError
from edge.publish.knock import knock
from edge.publish.publisher import Publisher
from edge.publish.security import tls_context
from tests.certificates import Authority, Certificate
from tests.mosquitto import Broker, Subscriber, free_port, wait_for
from tests.publish import samples

MakePublisher = Callable[..., Publisher]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def serve(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., Broker]]:
    """Starts a mosquitto that shows this certificate, and may ask for the client's."""
    started: List[Broker] = []

    def start(shown: Certificate, *settings: str, **passwords: str) -> Broker:
        folder = tmp_path / f"tls-{len(started)}"
        folder.mkdir()
        lines = [f"certfile {shown.certificate}", f"keyfile {shown.key}", *settings]
        started.append(Broker(folder, passwords or None, lines))
        started[-1].start()
        return started[-1]

    yield start
    for broker in started:
        broker.kill()


def config(broker: Any, host: str = "localhost", **settings: Any) -> MqttConfig:
    return MqttConfig.model_validate({"host": host, "port": broker.port, **settings})


def try_it(mqtt: MqttConfig) -> None:
    knock(mqtt, "nx-check", SystemClock(), 5.0)


def why_not(mqtt: MqttConfig) -> str:
    with pytest.raises(PublishError) as caught:
        try_it(mqtt)
    return str(caught.value)


def trusting(authority: Authority, **settings: Any) -> Dict[str, Any]:
    return {"ca_file": authority.certificate, **settings}


def test_everything_arrives_over_tls(
    authority: Authority, serve: Callable[..., Broker], make_publisher: MakePublisher
) -> None:
    broker = serve(authority.sign("broker"), nx="right")
    listener = ["-u", "nx", "-P", "right", "--cafile", str(authority.certificate)]
    broker.host = "localhost"
    publisher = make_publisher(
        broker, username="nx", password="right", tls=trusting(authority), detections_qos=1
    )
    publisher.start()
    publisher.publish_info(samples.appliance())
    witness = Subscriber(broker, "edge/#", options=listener)
    try:
        wait_for(lambda: publisher.counters().connected, "the connection")
        for frame_id in range(500):
            publisher.publish_detections(samples.frame_result(frame_id=frame_id))
        topic = "edge/nx/camera/dock1/detections"
        witness.wait_for(lambda: len(witness.on(topic)) >= 500, "all detections")
        assert [m.json()["frame_id"] for m in witness.on(topic)] == list(range(500))
        wait_for(lambda: publisher.counters().queued == 0, "every acknowledgement")
        assert publisher.stop(deadline_s=10)
        witness.wait_for(
            lambda: witness.payloads("edge/nx/availability")[-1:] == ["offline"], "the end"
        )
    finally:
        witness.close()


def test_a_client_certificate_opens_the_door(
    authority: Authority, serve: Callable[..., Broker]
) -> None:
    own, sealed = authority.sign("nx"), authority.sign("sealed", password="opens")
    asks = [f"cafile {authority.certificate}", "require_certificate true"]
    broker = serve(authority.sign("broker"), *asks)
    files = {"certificate_file": own.certificate, "key_file": own.key}
    try_it(config(broker, tls=trusting(authority, **files)))
    one = own.certificate.with_name("both.pem")
    one.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    try_it(config(broker, tls=trusting(authority, certificate_file=one)))
    files = {"certificate_file": sealed.certificate, "key_file": sealed.key}
    try_it(config(broker, tls=trusting(authority, key_password="opens", **files)))


def test_the_host_name_is_checked_unless_told_otherwise(
    authority: Authority, serve: Callable[..., Broker]
) -> None:
    broker = serve(authority.sign("broker", host="press.example"))
    assert why_not(config(broker, tls=trusting(authority))) == (
        "no TLS: its certificate is not for localhost: set mqtt.host to a name that it is for, or "
        "have it made for this one"
    )
    with pytest.raises(BrokerRefuses, match=r"not for 127\.0\.0\.1"):
        try_it(config(broker, host="127.0.0.1", tls=trusting(authority)))
    try_it(config(broker, tls=trusting(authority, check_hostname=False)))


def test_an_address_in_the_certificate_is_as_good_as_a_name(
    authority: Authority, serve: Callable[..., Broker]
) -> None:
    broker = serve(authority.sign("broker", host="127.0.0.1"))
    try_it(config(broker, host="127.0.0.1", tls=trusting(authority)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            {}, "its certificate is vouched for by none of the system's authorities", id="system's"
        ),
        pytest.param({"ca_file": "stranger"}, "by none of the authorities in ", id="wrong ca"),
        pytest.param(
            {"ca_file": "stranger", "check_hostname": False},
            "by none of the authorities in ",
            id="the chain is checked always",
        ),
    ],
)
def test_an_unknown_authority(
    settings: Dict[str, Any],
    words: str,
    authority: Authority,
    stranger: Authority,
    serve: Callable[..., Broker],
) -> None:
    if "ca_file" in settings:
        settings = {**settings, "ca_file": stranger.certificate}
    broker = serve(authority.sign("broker"))
    said = why_not(config(broker, tls=settings))
    assert words in said
    assert "set mqtt.tls.ca_file to" in said


def test_an_expired_certificate(authority: Authority, serve: Callable[..., Broker]) -> None:
    broker = serve(authority.sign("broker", days=-1))
    with pytest.raises(BrokerRefuses, match="no TLS: its certificate has expired, unless this"):
        try_it(config(broker, tls=trusting(authority)))


def test_no_client_certificate_where_one_is_wanted(
    authority: Authority, serve: Callable[..., Broker]
) -> None:
    asks = [f"cafile {authority.certificate}", "require_certificate true"]
    broker = serve(authority.sign("broker"), *asks)
    assert "mqtt.tls.certificate_file" in why_not(config(broker, tls=trusting(authority)))


def test_a_client_certificate_of_somebody_elses_authority(
    authority: Authority, stranger: Authority, serve: Callable[..., Broker]
) -> None:
    asks = [f"cafile {authority.certificate}", "require_certificate true"]
    broker = serve(authority.sign("broker"), *asks)
    other = stranger.sign("nx")
    files = {"certificate_file": other.certificate, "key_file": other.key}
    said = why_not(config(broker, tls=trusting(authority, **files)))
    # The alert may be lost with the connection.
    assert "authority behind mqtt.tls.certificate_file" in said or "closed by" in said


def test_tls_to_a_plain_port_and_the_other_way_round(
    authority: Authority, serve: Callable[..., Broker], broker: Broker
) -> None:
    assert "most brokers have" in why_not(config(broker, tls=trusting(authority)))
    secure = serve(authority.sign("broker"))
    assert "if this is its TLS port, set mqtt.tls" in why_not(config(secure))


def test_a_wrong_password_over_tls(authority: Authority, serve: Callable[..., Broker]) -> None:
    broker = serve(authority.sign("broker"), nx="right")
    mqtt = config(broker, username="nx", password="wrong", tls=trusting(authority))
    with pytest.raises(BrokerRefuses, match="user 'nx' is not authorized"):
        try_it(mqtt)


class OldServer:
    """Speaks TLS 1.2 at best."""

    def __init__(self, shown: Certificate) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(shown.certificate, shown.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            plain, _ = self._listener.accept()
        # The client has been told why.
        with plain, contextlib.suppress(ssl.SSLError):
            self._context.wrap_socket(plain, server_side=True).close()

    def join(self) -> None:
        self._thread.join(30)


def test_a_broker_whose_tls_is_too_old(authority: Authority) -> None:
    server = OldServer(authority.sign("broker"))
    said = why_not(config(server, tls=trusting(authority, min_version="1.3")))
    server.join()
    assert "TLS" in said
    assert "mqtt.tls.min_version" in said


def test_nobody_answers() -> None:
    with pytest.raises(PublishError, match="cannot be reached: Connection refused") as caught:
        knock(
            MqttConfig(host="127.0.0.1", port=free_port()), "nx-check", SystemClock(), timeout_s=5
        )
    assert not isinstance(caught.value, BrokerRefuses)


def test_a_broker_that_accepts_and_stays_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mqtt = MqttConfig(host="127.0.0.1", port=int(silent.getsockname()[1]))
        with pytest.raises(PublishError, match="does not answer within 1 s"):
            knock(mqtt, "nx-check", SystemClock(), timeout_s=1)


def test_a_server_that_never_answers_the_handshake(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.publish.security._HANDSHAKE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mqtt = MqttConfig.model_validate(
            {"port": int(silent.getsockname()[1]), "tls": trusting(authority)}
        )
        with pytest.raises(PublishError, match="no TLS: it does not answer") as caught:
            knock(mqtt, "nx-check", SystemClock(), timeout_s=5)
    assert not isinstance(caught.value, BrokerRefuses)


def test_a_visit_does_not_disturb_the_daemon(broker: Broker, make_publisher: MakePublisher) -> None:
    publisher = make_publisher(broker)
    publisher.start()
    wait_for(lambda: publisher.counters().connected, "the connection")
    witness = Subscriber(broker, "edge/nx/availability")
    try:
        witness.wait_for(lambda: witness.messages, "the availability")
        try_it(config(broker, host=broker.host))
        publisher.publish_health(samples.machine_reading({"cpu_load_pct": 1.0}))
        wait_for(lambda: publisher.counters().queued == 0, "what was said since")
        assert witness.payloads("edge/nx/availability") == ["online"]
    finally:
        witness.close()


def test_files_that_cannot_serve(authority: Authority, tmp_path: Path) -> None:
    own, other = authority.sign("own"), authority.sign("other")
    sealed = authority.sign("closed", password="opens")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    table: Dict[str, Dict[str, Any]] = {
        "ca_file .*absent.pem: cannot be read: No such file": {"ca_file": tmp_path / "absent.pem"},
        "ca_file .*text.pem: holds no certificate in PEM form": {"ca_file": text},
        "certificate_file .*text.pem: a certificate in PEM form, and": {"certificate_file": text},
        "key_file .*absent.key: cannot be read": {
            "certificate_file": own.certificate,
            "key_file": tmp_path / "absent.key",
        },
        "certificate_file .*own.pem: is not for the key in .*other.key": {
            "certificate_file": own.certificate,
            "key_file": other.key,
        },
        "key_file .*closed.key: is encrypted: set mqtt.tls.key_password_file": {
            "certificate_file": sealed.certificate,
            "key_file": sealed.key,
        },
        "closed.key does not open with mqtt.tls.key_password": {
            "certificate_file": sealed.certificate,
            "key_file": sealed.key,
            "key_password": "wrong",
        },
    }
    for words, settings in table.items():
        with pytest.raises(ConfigError, match=words):
            tls_context(TlsConfig.model_validate(settings))
