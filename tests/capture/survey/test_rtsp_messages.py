from __future__ import annotations

from typing import List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.survey.rtsp_messages import (
    Credentials,
    Login,
    VideoTrack,
    authorization,
    find_video,
    host_of,
    parse_head,
    split_credentials,
    without_login,
)

PAGE = ("GET", "/dir/index.html")
RFC2617 = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
RFC7616 = 'Digest realm="http-auth@example.org", qop="auth, auth-int", '
RFC7616 += 'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"'
CNONCE_7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("challenge", "password", "cnonce", "response"),
    [
        pytest.param(
            RFC2617 + ', qop="auth,auth-int"',
            "Circle Of Life",
            "0a4f113b",
            "6629fae49393a05397450978507c4ef1",
            id="the example of RFC 2617",
        ),
        pytest.param(
            RFC2617,
            "CircleOfLife",
            "0a4f113b",
            "1949323746fe6a43ef61f9606e7febea",
            id="the example of RFC 2069, as corrected",
        ),
        pytest.param(
            RFC7616 + ", algorithm=MD5",
            "Circle of Life",
            CNONCE_7616,
            "8ca523f5e9506fed4657c9700eebdbec",
            id="the first example of RFC 7616",
        ),
        pytest.param(
            RFC7616 + ", algorithm=SHA-256",
            "Circle of Life",
            CNONCE_7616,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            id="the second example of RFC 7616",
        ),
    ],
)
def test_digests_are_the_standards_own(
    challenge: str, password: str, cnonce: str, response: str
) -> None:
    answer = authorization(
        [challenge], Credentials("Mufasa", password), PAGE, Login(cnonce, count=1)
    )
    assert answer is not None
    assert f'response="{response}"' in answer
    assert answer.startswith('Digest username="Mufasa", realm="')


def test_a_digest_names_what_it_was_made_of() -> None:
    challenge = 'Digest realm="cam \\x", nonce="n", qop="auth", opaque="o", algorithm=MD5'
    answer = authorization([challenge], Credentials('a"b', "p"), PAGE, Login("c", count=3))
    assert answer is not None
    for part in (
        'username="a\\"b"',
        'nonce="n"',
        'uri="/dir/index.html"',
        'opaque="o"',
        'cnonce="c"',
        "qop=auth",
        "nc=00000003",
        "algorithm=MD5",
    ):
        assert part in answer


@pytest.mark.parametrize(
    ("challenges", "start"),
    [
        pytest.param(['Basic realm="cam"'], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", id="basic"),
        pytest.param(['Basic realm="c"', 'Digest realm="c", nonce="n"'], "Digest ", id="both"),
        pytest.param(
            ['Digest realm="c", nonce="n", algorithm=SHA-512', 'Digest realm="c", nonce="n"'],
            "Digest ",
            id="an unknown digest first",
        ),
        pytest.param(
            ['Digest nonce="n", algorithm=SHA-512', "basic realm=c"],
            "Basic ",
            id="only basic known",
        ),
        pytest.param(['Digest realm="c", algorithm=SHA-512'], None, id="an unknown digest"),
        pytest.param(["Negotiate"], None, id="neither"),
        pytest.param(["Digest"], "Digest ", id="without parameters"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_which_login_is_chosen(challenges: List[str], start: Optional[str]) -> None:
    aladdin = Credentials("Aladdin", "open sesame")  # RFC 7617's example
    answer = authorization(challenges, aladdin, PAGE, Login("c", count=1))
    assert (answer is None) if start is None else (answer or "").startswith(start)


@pytest.mark.parametrize(
    ("url", "bare", "expected"),
    [
        ("rtsp://h/s", "rtsp://h/s", None),
        ("rtsp://u:p@h:8554/s?a=1", "rtsp://h:8554/s?a=1", ("u", "p")),
        ("rtsp://u%40x:p%3A%2F@h/s", "rtsp://h/s", ("u@x", "p:/")),
        ("rtsp://u@h/s", "rtsp://h/s", ("u", "")),
        ("rtsp://u:a:b@[fd00::1]/s", "rtsp://[fd00::1]/s", ("u", "a:b")),
    ],
)
def test_credentials_leave_the_url(
    url: str, bare: str, expected: Optional[Tuple[str, str]]
) -> None:
    found, credentials = split_credentials(url)
    assert found == bare
    assert credentials == (None if expected is None else Credentials(*expected))


def test_credentials_do_not_print() -> None:
    assert "secret" not in repr(Credentials("user", "secret"))
    assert "user" not in repr(Credentials("user", "secret"))


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["RTSP/1.0 200 OK"], 200),
        (["RTSP/1.0 401"], 401),
        (["RTSP/2.0 551 Option not supported"], 551),
        (["RTSP/1.0 20 OK"], None),
        (["HTTP/1.1 400 Bad Request"], None),
        ([], None),
    ],
)
def test_status_lines(lines: List[str], status: Optional[int]) -> None:
    reply = parse_head(lines)
    assert (reply and reply.status) == status


def test_headers_by_any_case_and_more_than_once() -> None:
    lines = ["RTSP/1.0 401 No", "WWW-Authenticate: Digest a", "www-authenticate:Basic b", "X: a:b"]
    reply = parse_head(lines)
    assert reply is not None
    assert reply.headers["www-authenticate"] == ["Digest a", "Basic b"]
    assert reply.header("x") == "a:b"
    assert reply.header("absent") == ""


@pytest.mark.parametrize(
    ("sdp", "track"),
    [
        pytest.param("v=0\r\ns=x\r\n", None, id="no media"),
        pytest.param("m=audio 0 RTP/AVP 0\r\na=control:a\r\n", None, id="sound only"),
        pytest.param(
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 h265/90000\r\na=control:trackID=1\r\n",
            VideoTrack("H265", "rtsp://h/s/trackID=1"),
            id="a relative control",
        ),
        pytest.param(
            "m=video 0 RTP/AVP 26\na=control:*\nm=audio 0 RTP/AVP 0\na=control:a\n",
            VideoTrack("JPEG", "rtsp://h/s/"),
            id="a static codec and the session's own control",
        ),
        pytest.param(
            "m=audio 0 RTP/AVP 0\na=control:a\nm=video 0 RTP/AVP 97\n"
            "a=control:rtsp://u:p@h/other/track2\na=rtpmap:97 H264/90000\n"
            "m=video 0 RTP/AVP 98\na=rtpmap:98 AV1/90000\n",
            VideoTrack("H264", "rtsp://h/other/track2"),
            id="the first of two, with an absolute control",
        ),
        pytest.param(
            "m=video 0 RTP/AVP 99\n", VideoTrack("of an unnamed codec", "rtsp://h/s/"), id="bare"
        ),
    ],
)
def test_the_video_of_a_session(sdp: str, track: Optional[VideoTrack]) -> None:
    assert find_video(sdp, "rtsp://h/s/") == track


PIECES = st.sampled_from([*'abAB01 =,:;"\\/[]@*?#%-\t²é', "://", "auth", "qop=", "nonce="])
TEXT = st.lists(PIECES).map("".join)


@given(st.lists(TEXT), TEXT, TEXT)
def test_nothing_that_a_camera_says_is_an_exception(
    challenges: List[str], header: str, control: str
) -> None:
    answer = authorization(
        [f"Digest {challenge}" for challenge in challenges],
        Credentials("user", "secret"),
        PAGE,
        Login("c", count=1),
    )
    assert "secret" not in (answer or "")
    parse_head(["RTSP/1.0 200 OK", header, control])
    track = find_video(f"m=video {header}\na=control:{control}\n", "rtsp://h/s")
    assert track is not None
    assert host_of(f"rtsp://{control}/x") is not None
    assert without_login(f"rtsp://{control}", "rtsp://h/s")


def test_an_address_that_is_none_is_replaced() -> None:
    assert without_login("rtsp://[bad/x", "rtsp://h/s") == "rtsp://h/s"
    assert host_of("rtsp://[bad/x") == ""
