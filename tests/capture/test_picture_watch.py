from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.capture.picture_sample import PictureSample, sample
from edge.capture.picture_watch import Lasting, PictureWatch
from edge.geometry import Image
from edge.records import PictureState

S = 1_000_000_000
OK, FROZEN = PictureState.OK, PictureState.FROZEN
BLACK, COVERED = PictureState.BLACK, PictureState.COVERED
WIDTH, HEIGHT = 256, 144


def scene(seed: int = 1) -> NDArray[np.float32]:
    """Things of all sizes before a background, 0..255."""
    rng = np.random.default_rng(seed)
    view = np.full((HEIGHT, WIDTH, 3), 90.0, np.float32)
    view += np.linspace(-30, 30, WIDTH, dtype=np.float32)[None, :, None]
    for _ in range(60):
        left, top = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
        width, height = rng.integers(4, 70, 2)
        view[top : top + height, left : left + width] = rng.integers(20, 235, 3)
    return view


class Sensor:
    """Adds a sensor's noise to what is in front of it, quickly."""

    def __init__(self, sigma: float = 2.0, seed: int = 2) -> None:
        self._rng = np.random.default_rng(seed)
        self._noise = self._rng.normal(0, sigma, (HEIGHT * 2, WIDTH * 2, 3)).astype(np.float32)

    def sees(self, view: NDArray[np.float32]) -> Image:
        top, left = self._rng.integers(0, HEIGHT), self._rng.integers(0, WIDTH)
        noise = self._noise[top : top + HEIGHT, left : left + WIDTH]
        return np.asarray(np.clip(view + noise + 0.5, 0, 255), np.uint8)


class Viewer:
    """A watch on a stream of `fps`; remembers every change and when it came."""

    def __init__(self, fps: float = 2.5, *, is_live: bool = True) -> None:
        self.watch = PictureWatch(is_live=is_live)
        self.fps = fps
        self.now_s = 50.0
        self.changes: List[Tuple[float, PictureState]] = []

    def show(self, seconds: float, picture: Callable[[], Image]) -> None:
        for _ in range(round(seconds * self.fps)):
            self.now_s += 1 / self.fps
            state = self.watch.observe(picture(), int(self.now_s * S))
            if not self.changes or self.changes[-1][1] is not state:
                self.changes.append((self.now_s, state))

    @property
    def states(self) -> List[PictureState]:
        return [state for _, state in self.changes]

    def since(self, start_s: float) -> float:
        return self.changes[-1][0] - start_s


def resized(image: Image, size_wh: Tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, size_wh), np.uint8)


def test_a_static_scene_with_a_live_sensor_is_ok_for_an_hour() -> None:
    view, sensor, viewer = scene(), Sensor(1.0), Viewer(1.0)
    viewer.show(3600, lambda: sensor.sees(view))
    assert viewer.states == [OK]


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 20.0), st.floats(0.5, 30.0), st.integers(0, 1000))
def test_any_static_scene_with_any_noise_is_ok(sigma: float, fps: float, seed: int) -> None:
    view, sensor, viewer = scene(seed), Sensor(sigma, seed), Viewer(fps)
    viewer.show(40, lambda: sensor.sees(view))
    assert viewer.states == [OK]


@pytest.mark.parametrize("fps", [1.0, 2.5, 7.0, 15.0, 30.0])
def test_a_freeze_is_found_within_5_s(fps: float) -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer(fps)
    viewer.show(30, lambda: sensor.sees(view))
    last, frozen_s = sensor.sees(view), viewer.now_s
    viewer.show(20, lambda: last)
    assert viewer.states == [OK, FROZEN]
    assert viewer.since(frozen_s) <= 5.0 + 1e-6
    alive_s = viewer.now_s
    viewer.show(20, lambda: sensor.sees(view))
    assert viewer.states == [OK, FROZEN, OK]
    assert viewer.since(alive_s) <= 1.0


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: np.zeros((HEIGHT, WIDTH, 3), np.uint8), id="no signal"),
        pytest.param(lambda: np.full((HEIGHT, WIDTH, 3), 12, np.uint8), id="nearly black"),
    ],
)
def test_a_black_picture_is_found_within_5_s_and_is_not_called_frozen(
    make: Callable[[], Image],
) -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer(5)
    viewer.show(20, lambda: sensor.sees(view))
    black_s = viewer.now_s
    viewer.show(60, make)
    assert viewer.states == [OK, BLACK]
    assert viewer.since(black_s) <= 5.0
    light_s = viewer.now_s
    viewer.show(10, lambda: sensor.sees(view))
    assert viewer.states == [OK, BLACK, OK]
    assert viewer.since(light_s) <= 1.0


def test_a_black_picture_with_the_cameras_own_text_is_black() -> None:
    sensor, viewer = Sensor(1.0), Viewer()
    view = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    view[4:14, 4:80:3] = 230
    viewer.show(20, lambda: sensor.sees(view))
    assert viewer.states == [OK, BLACK]


def test_an_evening_is_black_only_when_it_is() -> None:
    view, sensor, viewer = scene(), Sensor(1.5), Viewer()
    light = np.geomspace(1.0, 0.01, 1800)  # two hours, a tenth of them
    for share in light:
        viewer.show(0.4, lambda share=share: sensor.sees(view * share))  # type: ignore[misc]
    assert viewer.states == [OK, BLACK]
    dark_at = int((viewer.changes[1][0] - 50.0) / 0.4)
    brightest = sample((view * light[dark_at]).astype(np.uint8)).brightest
    assert brightest == pytest.approx(16.0, abs=1.5)


def test_a_room_whose_light_goes_out_is_neither_covered_nor_frozen() -> None:
    view, sensor, viewer = scene(), Sensor(2.0), Viewer()
    viewer.show(60, lambda: sensor.sees(view))
    viewer.show(600, lambda: sensor.sees(view * 0.15))
    viewer.show(60, lambda: sensor.sees(view))
    assert viewer.states == [OK]


def hand(level: float, gradient: float) -> NDArray[np.float32]:
    slope = np.linspace(0, gradient, WIDTH, dtype=np.float32)[None, :, None]
    return np.full((HEIGHT, WIDTH, 3), level, np.float32) + slope


@pytest.mark.parametrize(
    ("cover", "sigma"),
    [
        pytest.param(hand(40, 0), 2.0, id="a hand"),
        pytest.param(hand(30, 0), 8.0, id="a hand, and the gain goes up"),
        pytest.param(hand(60, 90), 2.0, id="paper with light from the side"),
        pytest.param(hand(230, 0), 2.0, id="foam"),
        pytest.param(cv2.GaussianBlur(scene(), (0, 0), 40), 2.0, id="grease"),
    ],
)
def test_a_covered_lens_is_found_within_5_s(cover: NDArray[np.float32], sigma: float) -> None:
    view, sensor, behind, viewer = scene(), Sensor(), Sensor(sigma), Viewer(5)
    viewer.show(60, lambda: sensor.sees(view))
    covered_s = viewer.now_s
    viewer.show(120, lambda: behind.sees(cover))
    assert viewer.states == [OK, COVERED]
    assert viewer.since(covered_s) <= 5.0
    free_s = viewer.now_s
    viewer.show(30, lambda: sensor.sees(view))
    assert viewer.states == [OK, COVERED, OK]
    assert viewer.since(free_s) <= 5.0


def test_somebody_who_passes_close_is_no_cover() -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer()
    coat = view.copy()
    coat[:, 40:220] = 50.0
    for _ in range(20):
        viewer.show(10, lambda: sensor.sees(view))
        viewer.show(2, lambda: sensor.sees(hand(50, 0)))  # before the lens, but not for 3 s
        viewer.show(20, lambda: sensor.sees(coat))
    assert viewer.states == [OK]


def test_a_wall_is_not_covered() -> None:
    sensor, viewer = Sensor(), Viewer()
    viewer.show(60, lambda: sensor.sees(hand(120, 20)))
    viewer.show(60, lambda: sensor.sees(hand(60, 0)))
    assert viewer.states == [OK]


def test_fog_that_rises_slowly_is_no_cover() -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer()
    for share in np.linspace(1.0, 0.3, 1500):
        fog = view * share + 170 * (1 - share)
        viewer.show(0.4, lambda fog=fog: sensor.sees(fog))  # type: ignore[misc]
    assert viewer.states == [OK]


def test_another_stream_keeps_what_the_camera_usually_shows() -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer()
    viewer.show(30, lambda: sensor.sees(view))
    viewer.show(10, lambda: sensor.sees(hand(40, 0)))
    viewer.watch.begin()
    viewer.show(10, lambda: sensor.sees(hand(40, 0)))
    assert viewer.states == [OK, COVERED, OK, COVERED]


@pytest.mark.parametrize("level", [0, 90])
def test_a_recording_may_stand_still_and_change_as_it_likes(level: int) -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer(is_live=False)
    still = sensor.sees(view)
    viewer.show(60, lambda: still)
    plain = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
    viewer.show(60, lambda: plain)
    assert viewer.states == ([OK, BLACK] if level == 0 else [OK])


def test_a_size_that_changes_in_the_stream_is_no_harm() -> None:
    view, sensor, viewer = scene(), Sensor(), Viewer()
    viewer.show(30, lambda: sensor.sees(view))
    viewer.show(30, lambda: resized(sensor.sees(view), (640, 480)))
    viewer.show(30, lambda: np.ascontiguousarray(sensor.sees(view)[:3, :5]))
    assert viewer.states == [OK]


def test_pictures_are_looked_at_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: List[Image] = []

    def counted(image: Image) -> PictureSample:
        looked.append(image)
        return sample(image)

    monkeypatch.setattr("edge.capture.picture_watch.sample", counted)
    picture, viewer = Sensor().sees(scene()), Viewer(60.0)
    viewer.show(10, lambda: picture)
    assert len(looked) == 25


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3 * S)), max_size=40))
def test_a_condition_counts_after_it_has_lasted(steps: List[Tuple[bool, int]]) -> None:
    lasting, now_ns = Lasting(2 * S), 0
    met_since: Optional[int] = None
    for is_met, passed_ns in steps:
        now_ns += passed_ns
        met_since = (now_ns if met_since is None else met_since) if is_met else None
        expected = met_since is not None and now_ns - met_since >= 2 * S
        assert lasting.observe(is_met, now_ns) is expected is lasting.is_on


# --- through a real encoder -------------------------------------------------------------------

SIZE_WH = (640, 360)
ENCODERS: Dict[str, Tuple[str, ...]] = {
    "camera": ("-tune", "zerolatency", "-g", "50", "-b:v", "400k"),
    "few bits": ("-g", "250", "-b:v", "150k", "-maxrate", "150k", "-bufsize", "300k"),
    "skips most blocks": ("-g", "100", "-crf", "38", "-tune", "zerolatency"),
}


def encode(pictures: Iterator[Image], fps: int, options: Tuple[str, ...], path: Path) -> None:
    command = (
        *("ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"),
        *("-s", f"{SIZE_WH[0]}x{SIZE_WH[1]}", "-r", str(fps), "-i", "pipe:0"),
        *("-c:v", "libx264", "-preset", "ultrafast", *options, "-pix_fmt", "yuv420p", str(path)),
    )
    data = b"".join(picture.tobytes() for picture in pictures)
    subprocess.run(command, input=data, check=True, timeout=60)


def decode(path: Path) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        while True:
            ok, image = capture.read()
            if not ok:
                return
            yield np.asarray(image, np.uint8)
    finally:
        capture.release()


def encoded_twin(options: Tuple[str, ...], path: Path, seconds: int, fps: int = 5) -> List[Image]:
    """A static scene before a live sensor, as it comes out of an encoder."""
    sensor = Sensor(2.0)
    encode(
        (resized(sensor.sees(scene()), SIZE_WH) for _ in range(seconds * fps)), fps, options, path
    )
    return list(decode(path))


@pytest.mark.parametrize("options", ENCODERS.values(), ids=ENCODERS)
def test_a_static_scene_behind_an_encoder_is_ok(options: Tuple[str, ...], tmp_path: Path) -> None:
    pictures = encoded_twin(options, tmp_path / "clip.mp4", 40)
    viewer = Viewer(5)
    viewer.show(40, iter(pictures).__next__)
    assert viewer.states == [OK]


@pytest.mark.parametrize(
    ("encoder", "found_s"),
    [
        pytest.param("camera", 5.0, id="whose noise came through"),
        pytest.param("skips most blocks", 301.0, id="that had skipped most of it"),
    ],
)
def test_a_stream_that_repeats_one_picture_is_found(
    encoder: str, found_s: float, tmp_path: Path
) -> None:
    pictures = encoded_twin(ENCODERS[encoder], tmp_path / "clip.mp4", 20)
    viewer = Viewer(5)
    viewer.show(20, iter(pictures).__next__)
    assert viewer.states == [OK]
    frozen_s = viewer.now_s
    viewer.show(310, itertools.repeat(pictures[-1]).__next__)
    assert viewer.states == [OK, FROZEN]
    assert found_s - 2.0 <= viewer.since(frozen_s) <= found_s


def test_a_sensor_that_freezes_before_its_encoder_is_found(tmp_path: Path) -> None:
    """The same picture is encoded on and on: at first it is refined, and so is each key frame."""
    fps, sensor, clip = 5, Sensor(2.0), tmp_path / "clip.mp4"
    seen = [resized(sensor.sees(scene()), SIZE_WH) for _ in range(20 * fps)]
    views = itertools.chain(seen, itertools.repeat(seen[-1], 40 * fps))
    encode(views, fps, ("-tune", "zerolatency", "-g", "250", "-b:v", "2M"), clip)
    viewer = Viewer(fps)
    viewer.show(60, iter(list(decode(clip))).__next__)
    assert viewer.states[:2] == [OK, FROZEN]
