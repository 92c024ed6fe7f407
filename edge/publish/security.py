"""TLS: the context a connection is made in, and what goes wrong with it in words."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Optional

from edge.config.mqtt import MqttConfig, TlsConfig, TlsVersion
from edge.errors import ConfigError

_VERSIONS = {TlsVersion.V1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.V1_3: ssl.TLSVersion.TLSv1_3}

# openssl/x509_vfy.h
_NOT_YET_VALID = 9
_HAS_EXPIRED = 10
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 24, 27})
_OTHER_NAME = frozenset({62, 64})

# Parts of OpenSSL's own names, the same in 1.1.1 and 3: what the broker sends before it hangs up.
_ALERTS = (
    (
        "CERTIFICATE_REQUIRED",
        "it wants a client certificate: set mqtt.tls.certificate_file and mqtt.tls.key_file",
    ),
    (
        "UNKNOWN_CA",
        "it does not know the authority behind mqtt.tls.certificate_file",
    ),
    ("CERTIFICATE_EXPIRED", "it finds mqtt.tls.certificate_file expired: renew that"),
    ("CERTIFICATE_REVOKED", "it finds mqtt.tls.certificate_file revoked: replace that"),
    ("BAD_CERTIFICATE", "it does not accept mqtt.tls.certificate_file"),
    ("CERTIFICATE_UNKNOWN", "it does not accept mqtt.tls.certificate_file"),
    ("UNSUPPORTED_CERTIFICATE", "it cannot use the kind of mqtt.tls.certificate_file"),
    ("PROTOCOL_VERSION", "it has no TLS that is new enough (mqtt.tls.min_version is {version})"),
    ("UNSUPPORTED_PROTOCOL", "it has no TLS of {version} or newer (mqtt.tls.min_version)"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS on this port: most brokers have it on 8883"),
    (
        "HANDSHAKE_FAILURE",
        "it agrees to no cipher of ours, or wants a client certificate (mqtt.tls.certificate_file)",
    ),
)


# paho would wait for as long as the time between two pings.
_HANDSHAKE_S = 10.0


class Unanswered(OSError):
    """The other side took the connection and said nothing."""


class TlsSocket(ssl.SSLSocket):
    """Remembers why reading failed: TLS 1.3 turns a client away only after the handshake."""

    failure: Optional[ssl.SSLError] = None

    def do_handshake(self, block: bool = False) -> None:
        """As ssl's own, but leaves nothing open where it fails, and does not wait for long."""
        self.settimeout(_HANDSHAKE_S)
        try:
            super().do_handshake(block)
        except socket.timeout as error:
            self.close()
            raise Unanswered(f"no answer within {_HANDSHAKE_S:.0f} s") from error
        except OSError:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As ssl's own."""
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.failure = error
            raise


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """Reads the certificates, which may have been renewed since the last connection.

    Raises ConfigError where a file cannot serve.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, and checks the host name
    context.sslsocket_class = TlsSocket
    context.minimum_version = _VERSIONS[config.min_version]
    context.check_hostname = config.check_hostname
    if config.ca_file is None:
        context.load_default_certs()
    else:
        _load_authorities(context, config.ca_file)
    if config.certificate_file is not None:
        _load_certificate(context, config, config.certificate_file)
    return context


def tls_failure_in_words(error: OSError, config: MqttConfig) -> str:
    """Why a TLS connection did not come to be, and what to do."""
    if isinstance(error, Unanswered):
        return "it does not answer: most brokers have TLS on port 8883"
    if may_pass(error):
        return "it hangs up instead of speaking TLS: most brokers have that on port 8883"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_in_words(error, config)
    reason = str(getattr(error, "reason", None) or error)
    version = config.tls.min_version.value if config.tls else ""
    for part, words in _ALERTS:
        if part in reason:
            return words.format(version=version)
    return f"TLS fails: {reason.lower().replace('_', ' ')}"


def may_pass(error: OSError) -> bool:
    """Tells whether a broker that starts, ends, or is far too busy fails in the same way."""
    return isinstance(error, (ssl.SSLEOFError, ConnectionResetError, Unanswered))


def _verification_in_words(error: ssl.SSLCertVerificationError, config: MqttConfig) -> str:
    code = error.verify_code
    if code == _HAS_EXPIRED:
        return "its certificate has expired, unless this machine's clock is wrong"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet: this machine's clock is slow, most likely"
    if code in _OTHER_NAME:
        return (
            f"its certificate is not for {config.host}: set mqtt.host to a name that it is for, "
            "or have it made for this one"
        )
    if code in _UNKNOWN_AUTHORITY:
        return f"its certificate is vouched for by none of {_authorities(config)}: set " + (
            "mqtt.tls.ca_file to the file of the authority that signed it"
        )
    return f"its certificate is refused: {error.verify_message}"


def _authorities(config: MqttConfig) -> str:
    if config.tls is None or config.tls.ca_file is None:
        return "the system's authorities"
    return f"the authorities in {config.tls.ca_file}"


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _check_readable(path, "ca_file")
    try:
        context.load_verify_locations(cafile=str(path))
    except ssl.SSLError as error:
        raise ConfigError(f"mqtt.tls.ca_file {path}: holds no certificate in PEM form") from error


def _load_certificate(context: ssl.SSLContext, config: TlsConfig, path: Path) -> None:
    key = config.key_file or path
    _check_readable(path, "certificate_file")
    is_encrypted = b"ENCRYPTED" in _check_readable(key, "key_file")
    password = config.key_password.get_secret_value() if config.key_password else ""
    if is_encrypted and not password:
        raise ConfigError(f"mqtt.tls.key_file {key}: is encrypted: set mqtt.tls.key_password_file")
    try:
        # The password is always given, or OpenSSL might ask the terminal for it.
        context.load_cert_chain(str(path), str(key), password=lambda: password)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error.reason):
            reason = f"is not for the key in {key}"
        elif is_encrypted:
            reason = f"the key in {key} does not open with mqtt.tls.key_password"
        else:
            reason = f"a certificate in PEM form, and its private key in {key}, are needed"
        raise ConfigError(f"mqtt.tls.certificate_file {path}: {reason}") from error


def _check_readable(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"mqtt.tls.{key} {path}: cannot be read: {error.strerror}") from error
