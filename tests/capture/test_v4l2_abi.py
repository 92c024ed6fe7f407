"""The bytes are those that Linux gives on a 64-bit machine."""

from __future__ import annotations

import struct

import pytest

from edge.capture import v4l2_abi as abi


def padded(text: bytes, size: int) -> bytes:
    return text.ljust(size, b"\0")


def capability(
    whole: int, node: int, driver: bytes = b"uvcvideo", card: bytes = b"HD Pro Webcam C920"
) -> bytes:
    version = bytes.fromhex("00 3c 05 00")  # 5.60.0
    flags = whole.to_bytes(4, "little") + node.to_bytes(4, "little")
    bus = b"usb-0000:00:14.0-1"
    return (
        padded(driver, 16) + padded(card, 32) + padded(bus, 32) + version + flags + padded(b"", 12)
    )


def test_the_request_numbers_are_the_kernels() -> None:
    assert abi.QUERYCAP == 0x80685600
    assert abi.ENUM_FMT == 0xC0405602
    assert abi.REQBUFS == 0xC0145608
    assert abi.ENUM_FRAMESIZES == 0xC02C564A
    assert abi.ENUM_FRAMEINTERVALS == 0xC034564B
    assert abi.GET_CONTROL == 0xC008561B
    assert abi.SET_CONTROL == 0xC008561C
    assert abi.QUERY_CONTROL == 0xC0445624


def test_a_webcam_says_what_it_is() -> None:
    found = abi.parse_capability(capability(0x84A00001, 0x04200001))
    assert found == abi.Capability(
        "uvcvideo", "HD Pro Webcam C920", "usb-0000:00:14.0-1", 0x04200001
    )


@pytest.mark.parametrize(
    ("whole", "node", "is_camera", "buffer_type"),
    [
        pytest.param(0x84A00001, 0x04200001, True, 1, id="a webcam"),
        pytest.param(0x84A00001, 0x04A00000, False, 9, id="its metadata node"),
        pytest.param(0x04000001, 0, True, 1, id="an old driver without flags of the node"),
        pytest.param(0x85200003, 0x05200003, True, 1, id="a loopback that also takes pictures"),
        pytest.param(0x84201000, 0x04201000, True, 9, id="several planes"),
        pytest.param(0x84204000, 0x04204000, False, 9, id="a codec"),
        pytest.param(0x84208001, 0x04208001, False, 1, id="an old codec"),
        pytest.param(0x84200002, 0x04200002, False, 9, id="a display"),
    ],
)
def test_which_nodes_are_cameras(whole: int, node: int, is_camera: bool, buffer_type: int) -> None:
    found = abi.parse_capability(capability(whole, node))
    assert found.is_camera is is_camera
    assert found.buffer_type == buffer_type


def test_a_card_that_is_no_text_does_not_stop_the_survey() -> None:
    found = abi.parse_capability(capability(1, 0, card=b"\xff" * 32))
    assert found.card == "\ufffd" * 32


FORMAT = bytes.fromhex("01000000 01000000 01000000") + padded(b"Motion-JPEG", 32)
FORMAT += b"MJPG" + bytes(4 * 4)
DISCRETE_SIZE = bytes.fromhex("02000000 4d4a5047 01000000 80070000 38040000") + bytes(4 * 4 + 8)
STEPWISE_SIZE = bytes.fromhex("00000000 59555956 03000000") + struct.pack(
    "<6I8x", 160, 3280, 16, 120, 2464, 8
)
DISCRETE_INTERVAL = bytes.fromhex(
    "00000000 4d4a5047 80070000 38040000 01000000 e9030000 30750000"
) + bytes(4 * 4 + 8)
CONTINUOUS_INTERVAL = struct.pack("<5I6I8x", 0, 0, 640, 480, 2, 1, 60, 1, 5, 1, 1)


def test_formats() -> None:
    entry = abi.parse_format(FORMAT)
    assert (entry.fourcc, entry.description) == ("MJPG", "Motion-JPEG")
    assert abi.format_request(3, 1) == struct.pack("<II", 3, 1) + bytes(56)


@pytest.mark.parametrize(
    ("code", "fourcc"),
    [
        (int.from_bytes(b"YUYV", "little"), "YUYV"),
        (int.from_bytes(b"Y16 ", "little"), "Y16"),
        (int.from_bytes(b"Y16 ", "little") | 1 << 31, "Y16-BE"),
    ],
)
def test_four_letters(code: int, fourcc: str) -> None:
    assert abi.FormatEntry(code, "").fourcc == fourcc


def test_sizes() -> None:
    assert abi.parse_size(DISCRETE_SIZE) == abi.SizeEntry((1920, 1080), (1920, 1080), False)
    assert abi.parse_size(STEPWISE_SIZE) == abi.SizeEntry((160, 120), (3280, 2464), True)
    assert abi.size_request(2, 5) == struct.pack("<II", 2, 5) + bytes(36)


def test_intervals_are_told_as_rates() -> None:
    rate = abi.parse_interval(DISCRETE_INTERVAL).fastest_fps
    assert rate == pytest.approx(29.97, abs=0.001)
    assert abi.parse_interval(CONTINUOUS_INTERVAL) == abi.IntervalEntry(5.0, 60.0, True)
    assert abi.interval_request(1, 5, (640, 480)) == struct.pack("<IIII", 1, 5, 640, 480) + bytes(
        36
    )


def test_an_interval_of_nothing_is_no_rate() -> None:
    answer = struct.pack("<5I6I8x", 0, 0, 640, 480, 1, 0, 0, 0, 0, 0, 0)
    assert abi.parse_interval(answer).fastest_fps == 0.0


def test_freeing_asks_for_no_buffer() -> None:
    assert abi.free_buffers_request(1) == struct.pack("<III", 0, 1, 1) + bytes(8)


def test_controls() -> None:
    assert abi.control_request(0x009A0901, 3) == bytes.fromhex("01099a00 03000000")
    assert abi.parse_control(bytes.fromhex("01099a00 ffffffff")) == -1
    assert abi.default_request(0x009A0901) == bytes.fromhex("01099a00") + bytes(64)
    limits = struct.pack("<4i", 0, 3, 1, 3)
    answer = bytes.fromhex("01099a00 03000000") + padded(b"Auto Exposure", 32) + limits + bytes(12)
    assert abi.parse_default(answer) == 3
