"""A real mosquitto broker and real mosquitto_sub subscribers on the loopback, for tests."""

from __future__ import annotations

import getpass
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, NamedTuple, Optional, Sequence

# Generous: a loaded machine may be slow, and a test that passes never waits this long.
PATIENCE_S = 30.0


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Returns once `condition` holds; fails the test with `what` if it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _executable(name: str) -> str:
    # Debian keeps the broker where a user's PATH may not look.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed"
    return found


class Broker:
    """One mosquitto without persistence, on the same port through all its restarts.

    `settings` are more lines of its configuration, of its one listener for example.
    """

    def __init__(
        self,
        folder: Path,
        passwords: Optional[Dict[str, str]] = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._folder = folder
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} {self.host}", "persistence false", "log_type all"]
        # Started by root, mosquitto would give up the right to read its own files.
        lines.append(f"user {getpass.getuser()}")
        lines += [f"allow_anonymous {'false' if passwords else 'true'}"]
        if passwords:
            lines.append(f"password_file {self._write_passwords(passwords)}")
        lines += settings
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def log(self) -> str:
        """What the broker has written so far."""
        return (self._folder / "mosquitto.log").read_text(errors="replace")

    def start(self) -> None:
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_executable("mosquitto"), "-c", str(self._config)], stdout=log, stderr=log
            )
        wait_for(self._answers, "mosquitto to listen")

    def stop(self) -> None:
        """Ends the broker cleanly: it closes its connections."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the broker as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """The broker's sockets stay open, nobody reads them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publishes at QoS 1 as some other client."""
        command = [_executable("mosquitto_pub"), "-h", self.host, "-p", str(self.port)]
        command += ["-q", "1", "-t", topic, "-m", payload] + (["-r"] if retain else [])
        subprocess.run(command, check=True, timeout=PATIENCE_S)

    def publish_lines(self, topic: str, payloads: Sequence[str]) -> None:
        """Publishes many at QoS 1 through one connection, as fast as it goes."""
        command = [_executable("mosquitto_pub"), "-h", self.host, "-p", str(self.port)]
        lines = "".join(f"{payload}\n" for payload in payloads).encode()
        subprocess.run(
            [*command, "-q", "1", "-t", topic, "-l"], input=lines, check=True, timeout=PATIENCE_S
        )

    def _write_passwords(self, passwords: Dict[str, str]) -> Path:
        path = self._folder / "passwords"
        path.touch(0o600)
        for user, password in passwords.items():
            subprocess.run(
                [_executable("mosquitto_passwd"), "-b", str(path), user, password],
                check=True,
                timeout=PATIENCE_S,
            )
        return path

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        self._signal(signal.SIGCONT)
        if self._process is not None:
            self._process.wait(PATIENCE_S)
        self._process = None


class Received(NamedTuple):
    """One message as mosquitto_sub saw it; `retain` means the broker had it in store."""

    topic: str
    payload: str
    retain: bool

    def json(self) -> Any:
        return json.loads(self.payload)


class Subscriber:
    """One mosquitto_sub; it is subscribed once the constructor returns.

    `heard` is what all of them received, for whoever wants to look at everything.
    """

    heard: ClassVar[List[Received]] = []

    def __init__(
        self, broker: Broker, topic: str = "#", qos: int = 1, options: Sequence[str] = ()
    ) -> None:
        self.messages: List[Received] = []
        self._is_subscribed = threading.Event()
        # Into a pipe it would keep its lines back until there are kilobytes of them.
        command = [_executable("stdbuf"), "-oL", _executable("mosquitto_sub"), "-d"]
        command += ["-h", broker.host, "-p", str(broker.port)]
        command += ["-t", topic, "-q", str(qos), "-F", "message %r %t %p", *options]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",  # a JPEG is no text
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._is_subscribed.wait(PATIENCE_S), "mosquitto_sub did not get its subscription"

    def on(self, topic: str) -> List[Received]:
        """The messages of one topic so far."""
        return [message for message in list(self.messages) if message.topic == topic]

    def payloads(self, topic: str) -> List[str]:
        """The payloads of one topic so far."""
        return [message.payload for message in self.on(topic)]

    def wait_for(
        self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S
    ) -> None:
        """Like `wait_for`, but shows what was received instead."""
        try:
            wait_for(condition, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; received {self.messages}") from None

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Subscribed "):
                self._is_subscribed.set()
            elif line.startswith("message "):
                _, retain, topic, payload = line.rstrip("\n").split(" ", 3)
                self.messages.append(Received(topic, payload, retain == "1"))
                self.heard.append(self.messages[-1])
