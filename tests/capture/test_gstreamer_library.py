from __future__ import annotations

import pytest

from edge.capture.gstreamer import check_line
from edge.capture.gstreamer_library import has_element, parse_fault
from edge.errors import CaptureError

needs_library = pytest.mark.skipif(
    not has_element("fakesink"), reason="no GStreamer here: apt-get install libgstreamer1.0-0"
)


def test_an_unknown_element_is_not_there() -> None:
    assert not has_element("nosuchelement")


@needs_library
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fakesrc ! fakesink", None),
        ("fakesrc ! nosuchelement", 'no element "nosuchelement"'),
        ("fakesrc nosuchproperty=1 ! fakesink", 'no property "nosuchproperty"'),
        ("fakesrc !", "syntax error"),
    ],
)
def test_gstreamer_says_what_it_cannot_build(line: str, words: str) -> None:
    fault = parse_fault(line)
    assert (fault is None) if words is None else words in str(fault)


@needs_library
def test_the_words_hide_credentials() -> None:
    line = "fakesrc ! nosuchelement location=rtsp://u:secret@h/s user-pw=secret"
    with pytest.raises(CaptureError, match='no element "nosuchelement"') as caught:
        check_line(line)
    assert "secret" not in str(caught.value)
    check_line("fakesrc ! fakesink")
