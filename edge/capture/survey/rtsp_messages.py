"""RTSP's requests and replies as text (RFC 2326), with HTTP's two ways to log in (RFC 2617)."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit, urlunsplit

# Of a header such as: Digest realm="camera", nonce="4f1c", algorithm=MD5
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')
_STATUS = re.compile(r"^RTSP/\d\.\d (\d{3})(?: (.*))?$")
_RTPMAP = re.compile(r"^a=rtpmap:\d+ ([A-Za-z0-9-]+)/")
# RFC 3551: payload types that need no rtpmap.
_STATIC_CODECS = {"26": "JPEG", "31": "H261", "32": "MPV", "33": "MP2T", "34": "H263"}
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


@dataclass(frozen=True)
class Reply:
    """A reply; header names are in lower case, each with all its values."""

    status: int
    headers: Mapping[str, Sequence[str]]

    def header(self, name: str) -> str:
        """The header's first value; empty if it is not there."""
        return self.headers.get(name, ("",))[0]


@dataclass(frozen=True)
class Credentials:
    """Who logs in; never to be printed."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(***)"


@dataclass(frozen=True)
class Login:
    """What keeps digests from being repeated: the client's nonce and how often it was used."""

    cnonce: str
    count: int


@dataclass(frozen=True)
class VideoTrack:
    """A session's video: what it is coded in, and the URL that it is set up under."""

    codec: str
    control: str


def split_credentials(url: str) -> Tuple[str, Optional[Credentials]]:
    """The URL without user and password, and these, with %40 and the like resolved."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    if not at:
        return bare, None
    user, _, password = login.partition(":")
    return bare, Credentials(unquote(user), unquote(password))


def without_login(url: str, otherwise: str) -> str:
    """A URL that the camera gave, without user and password; `otherwise` if it is none."""
    try:
        return split_credentials(url)[0]
    except ValueError:
        return otherwise


def host_of(url: str) -> str:
    """The host in a URL that the camera gave; empty if it is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def parse_head(lines: Sequence[str]) -> Optional[Reply]:
    """A reply's status line and headers; None if it is no RTSP."""
    match = _STATUS.match(lines[0]) if lines else None
    if match is None:
        return None
    headers: Dict[str, List[str]] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return Reply(int(match.group(1)), headers)


def authorization(
    challenges: Sequence[str], credentials: Credentials, request: Tuple[str, str], login: Login
) -> Optional[str]:
    """What answers a 401's challenges for a request (method, url): Digest if offered, else Basic.

    None if the camera asks for neither, or only for a digest that is not known.
    """
    kinds = [challenge.partition(" ")[0].lower() for challenge in challenges]
    for kind, challenge in zip(kinds, challenges):
        if kind == "digest":
            answer = _digest(_parameters(challenge), credentials, request, login)
            if answer is not None:
                return answer
    if "basic" in kinds:
        text = f"{credentials.user}:{credentials.password}"
        return f"Basic {base64.b64encode(text.encode()).decode()}"
    return None


def find_video(sdp: str, base_url: str) -> Optional[VideoTrack]:
    """The first video of a session description; None if it has none."""
    track: Optional[List[str]] = None
    for line in (line.strip() for line in sdp.splitlines()):
        if line.startswith("m="):
            if track is not None:
                break
            track = [line] if line.startswith("m=video") else None
        elif track is not None:
            track.append(line)
    return None if track is None else VideoTrack(_codec(track), _control(track, base_url))


def _codec(track: Sequence[str]) -> str:
    for line in track:
        match = _RTPMAP.match(line)
        if match:
            return match.group(1).upper()
    # m=video PORT RTP/AVP TYPE
    return _STATIC_CODECS.get(track[0].split()[-1], "of an unnamed codec")


def _control(track: Sequence[str], base_url: str) -> str:
    controls = [line[len("a=control:") :] for line in track if line.startswith("a=control:")]
    if not controls or controls[0] == "*":
        return base_url
    if "://" in controls[0]:
        return without_login(controls[0], base_url)
    return f"{base_url.rstrip('/')}/{controls[0].lstrip('/')}"


def _parameters(challenge: str) -> Dict[str, str]:
    found = _PARAMETER.findall(challenge.partition(" ")[2])
    return {name.lower(): quoted or bare for name, quoted, bare in found}


def _digest(
    challenge: Mapping[str, str], credentials: Credentials, request: Tuple[str, str], login: Login
) -> Optional[str]:
    algorithm = challenge.get("algorithm", "MD5")
    name = algorithm.upper().replace("-SESS", "")
    if name not in _HASHES:
        return None
    realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")

    def hashed(*parts: str) -> str:
        return str(_HASHES[name](":".join(parts).encode()).hexdigest())

    secret = hashed(credentials.user, realm, credentials.password)
    if algorithm.upper().endswith("-SESS"):
        secret = hashed(secret, nonce, login.cnonce)
    fields = {"username": credentials.user, "realm": realm, "nonce": nonce, "uri": request[1]}
    fields.update({key: challenge[key] for key in ("opaque",) if key in challenge})
    bare = {key: challenge[key] for key in ("algorithm",) if key in challenge}
    rounds: Tuple[str, ...] = ()
    if "auth" in challenge.get("qop", "").replace(" ", "").split(","):
        count = f"{login.count:08x}"
        fields["cnonce"] = login.cnonce
        bare.update(qop="auth", nc=count)
        rounds = (count, login.cnonce, "auth")
    fields["response"] = hashed(secret, nonce, *rounds, hashed(*request))
    quoted = [f'{key}="{_escaped(value)}"' for key, value in fields.items()]
    return f"Digest {', '.join(quoted + [f'{key}={value}' for key, value in bare.items()])}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
