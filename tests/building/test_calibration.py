from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict, FrozenSet, List, Set, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.building.calibration import (
    MIN_IMAGES,
    CalibrationImage,
    CalibrationSet,
    folder_sha256,
    letterboxed,
    read_calibration,
    to_network,
)
from edge.building.calibration_lint import Expectations
from edge.building.graph import deploy
from edge.building.image_file import read_image, sha256_of
from edge.building.likeness import is_alike, thumbnail
from edge.config.schema import ModelConfig
from edge.demo.show import ASSETS
from edge.errors import BuildError, ConfigError
from edge.geometry import PAD_GREY, Image, Letterbox, PadAnchor
from edge.records import ChannelOrder, Preprocessing
from tests.building.calibration_folder import encoded, fill, picture

SHIPPED = Path(__file__).resolve().parents[2] / "calibration"
SQUARE = Preprocessing((64, 64))

# --- reading -----------------------------------------------------------------------------------


def test_the_shipped_images_have_nothing_to_mend_and_leave_enough_to_judge_by() -> None:
    found = read_calibration(SHIPPED, Expectations((320, 320), 7))
    assert found.notes == ()
    assert len(found.images) == 512
    calibration, held_out = found.split(0.2)
    assert len(calibration) + len(held_out) == 512
    assert 77 <= len(held_out) <= 128


def test_images_have_content_size_and_order(tmp_path: Path) -> None:
    folder = fill(tmp_path, 12)
    (folder / "wide.png").write_bytes(encoded(picture(99, (200, 50)), ".png"))
    found = read_calibration(folder)
    by_name = {image.path.name: image for image in found.images}
    assert len(by_name) == 13
    wide = by_name["wide.png"]
    assert wide.size_wh == (200, 50)
    assert wide.sha256 == sha256_of((folder / "wide.png").read_bytes())
    assert wide.labels is None
    assert [image.sha256 for image in found.images] == sorted(i.sha256 for i in found.images)


def test_copies_are_used_once_and_the_labelled_one_goes_first(tmp_path: Path) -> None:
    folder = fill(tmp_path, 12)
    shutil.copy(folder / "003.jpg", folder / "a.jpg")
    shutil.copy(folder / "003.jpg", folder / "z.jpg")
    (folder / "z.txt").write_text("")
    found = read_calibration(folder)
    names = {image.path.name for image in found.images}
    assert len(names) == 12
    assert "z.jpg" in names
    assert "2 images are the very copy of another, which counts once: 003.jpg, a.jpg" in found.notes


def test_unreadable_images_are_skipped_and_named(tmp_path: Path) -> None:
    folder = fill(tmp_path, MIN_IMAGES)
    (folder / "cut.jpg").write_bytes(encoded(picture(50))[:-100])
    (folder / "folder.jpg").mkdir()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    found = read_calibration(folder)
    assert len(found.images) == MIN_IMAGES
    assert found.notes[0].endswith("skipped: cut.jpg, folder.jpg, gone.png")


@pytest.mark.parametrize(
    ("count", "damaged", "copies", "expected"),
    [
        pytest.param(1, 0, 0, "only 1 of its 1 images can be used", id="one image"),
        pytest.param(MIN_IMAGES - 1, 0, 0, "only 9 of its 9 images can be used", id="one short"),
        pytest.param(0, 3, 0, "only 0 of its 3 images can be used; unreadable", id="none whole"),
        pytest.param(
            9, 1, 0, "9 of its 10 images can be used; unreadable or cut short: bad0", id="b"
        ),
        pytest.param(9, 0, 1, "9 of its 10 images can be used; copies of others: ", id="copies"),
    ],
)
def test_too_few_images_are_an_error(
    count: int, damaged: int, copies: int, expected: str, tmp_path: Path
) -> None:
    fill(tmp_path, count)
    for number in range(damaged):
        (tmp_path / f"bad{number}.jpg").write_bytes(b"\xff\xd8 no picture")
    for number in range(copies):
        shutil.copy(tmp_path / "000.jpg", tmp_path / f"copy{number}.jpg")
    with pytest.raises(ConfigError) as raised:
        read_calibration(tmp_path)
    assert expected in str(raised.value)
    assert "at least 10 are needed, 500 or more advised" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_labels_come_with_their_images(tmp_path: Path) -> None:
    folder = fill(tmp_path, 12)
    (folder / "004.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (folder / "005.txt").write_text("")
    found = read_calibration(folder, Expectations(class_count=2))
    labels = {image.path.stem: image.labels for image in found.images if image.labels is not None}
    assert set(labels) == {"004", "005"}
    assert labels["004"].boxes_xyxy.tolist() == [[24, 16, 72, 48]]
    assert len(labels["005"]) == 0
    assert any(note.startswith("10 images are without a label file") for note in found.notes)


def test_every_faulty_label_file_is_named_up_to_a_limit(tmp_path: Path) -> None:
    folder = fill(tmp_path, 25)
    for number in range(2):
        (folder / f"{number:03d}.txt").write_text("0 .5 .5 .5 .5\n2 .5 .5 .5 .5\n3 .5 .5\n")
    with pytest.raises(ConfigError) as raised:
        read_calibration(folder, Expectations(class_count=2))
    lines = str(raised.value).splitlines()
    assert [
        line.startswith(f"{folder / name}:2: class 2 does not")
        for name, line in zip(("000.txt", "001.txt"), lines)
    ] == [True, True]
    for number in range(25):
        (folder / f"{number:03d}.txt").write_text("bolt")
    with pytest.raises(ConfigError) as raised:
        read_calibration(folder)
    assert len(str(raised.value).splitlines()) == 21
    assert str(raised.value).endswith("and 5 more label files")


# --- the content's name ------------------------------------------------------------------------


def test_the_content_has_one_name_whatever_the_files_are_called(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one", 12), tmp_path / "other"
    other.mkdir()
    for number, path in enumerate(sorted(one.iterdir(), reverse=True)):
        shutil.copy(path, other / f"frame-{number}.jpg")
    (one / "003.txt").write_text("0 .5 .5 .5 .5")
    (other / "labels").mkdir()
    (other / "labels" / "frame-8.txt").write_text("0 .5 .5 .5 .5")
    shutil.copy(other / "frame-5.jpg", other / "copy.jpg")
    assert folder_sha256(one) == folder_sha256(other)
    first, second = read_calibration(one), read_calibration(other)
    assert first.sha256 == second.sha256 == folder_sha256(one)
    assert hashes(first.images) == hashes(second.images)


def test_each_change_gives_another_name(tmp_path: Path) -> None:
    folder = fill(tmp_path, 12)
    seen: Set[str] = {folder_sha256(folder)}
    changes = [
        ("000.jpg", encoded(picture(0), quality=94)),
        ("new.jpg", encoded(picture(77))),
        ("001.txt", b""),
        ("001.txt", b"0 .5 .5 .5 .5"),
        ("002.txt", b"0 .5 .5 .5 .5"),
    ]
    for name, data in changes:
        (folder / name).write_bytes(data)
        seen.add(folder_sha256(folder))
    (folder / "007.jpg").unlink()
    seen.add(folder_sha256(folder))
    assert len(seen) == len(changes) + 2
    (folder / "notes.md").write_text("not an image")
    assert folder_sha256(folder) in seen


def test_a_missing_folder_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        folder_sha256(tmp_path / "none")


# --- the split ---------------------------------------------------------------------------------


def hashes(images: Tuple[CalibrationImage, ...]) -> List[str]:
    return [image.sha256 for image in images]


def flat(level: int) -> Image:
    return np.full((32, 32), level, np.uint8)


# None like another or like a flat one, and so many that neither part is ever empty.
SPECKLED = np.random.default_rng(0).integers(0, 256, (40, 32, 32)).astype(np.uint8)


def set_of(levels: Dict[int, int]) -> CalibrationSet:
    """The speckled images, and for each key a flat one of the grey level that is the value."""
    thumbnails = {sha256_of(b"speckled %d" % n): cells for n, cells in enumerate(SPECKLED)}
    thumbnails.update({sha256_of(b"%d" % name): flat(level) for name, level in levels.items()})
    names = sorted(thumbnails)
    images = tuple(CalibrationImage(Path(sha256), sha256, (64, 48)) for sha256 in names)
    return CalibrationSet(images, "", (), tuple(thumbnails[sha256] for sha256 in names))


def parts(found: CalibrationSet, holdout: float) -> Tuple[FrozenSet[str], FrozenSet[str]]:
    calibration, held_out = found.split(holdout)
    return frozenset(hashes(calibration)), frozenset(hashes(held_out))


LEVELS = st.dictionaries(st.integers(0, 10_000), st.integers(0, 255), max_size=30)
HOLDOUT = st.floats(0.2, 0.5)


@given(LEVELS, HOLDOUT)
def test_no_image_is_in_both_parts_and_none_is_like_one_of_the_other(
    levels: Dict[int, int], holdout: float
) -> None:
    found = set_of(levels)
    cells = dict(zip(hashes(found.images), found._thumbnails))
    calibration, held_out = parts(found, holdout)
    assert not calibration & held_out
    for one in held_out:
        assert not any(is_alike(cells[one], cells[other]) for other in calibration)


def test_a_recompressed_image_is_never_judged_by_when_its_original_is_learnt(
    tmp_path: Path,
) -> None:
    folder = fill(tmp_path, 30)
    for seed in range(30):
        (folder / f"{seed:03d}-again.jpg").write_bytes(encoded(picture(seed), quality=80))
    found = read_calibration(folder)
    calibration, held_out = found.split(0.4)
    learnt, judged = ({image.path.name[:3] for image in part} for part in (calibration, held_out))
    assert not learnt & judged
    assert len(learnt | judged) == 30
    assert any(note.startswith("30 images are hardly different") for note in found.notes)


@given(LEVELS, HOLDOUT)
def test_only_images_like_one_to_calibrate_from_are_left_out(
    levels: Dict[int, int], holdout: float
) -> None:
    found = set_of(levels)
    calibration, held_out = parts(found, holdout)
    for sha256, one in zip(hashes(found.images), found._thumbnails):
        if sha256 not in calibration | held_out:
            cells = dict(zip(hashes(found.images), found._thumbnails))
            assert any(is_alike(one, cells[other]) for other in calibration)


@given(LEVELS, LEVELS, HOLDOUT)
def test_added_images_move_no_other_to_the_other_part(
    levels: Dict[int, int], more: Dict[int, int], holdout: float
) -> None:
    before = parts(set_of(levels), holdout)
    after = parts(set_of({**more, **levels}), holdout)
    assert before[0] <= after[0]
    assert not before[1] & after[0]


@given(LEVELS, HOLDOUT, st.integers(0, 10_000))
def test_an_added_image_unlike_all_others_changes_nothing_for_them(
    levels: Dict[int, int], holdout: float, name: int
) -> None:
    dark = {other: level // 2 for other, level in levels.items() if other != name}
    before = parts(set_of(dark), holdout)
    after = parts(set_of({**dark, name: 255}), holdout)
    assert before[0] <= after[0]
    assert before[1] <= after[1]
    assert len(after[0] | after[1]) == len(before[0] | before[1]) + 1


@given(LEVELS)
def test_a_larger_holdout_only_takes_from_the_calibration(levels: Dict[int, int]) -> None:
    found = set_of(levels)
    assert parts(found, 0.5)[0] <= parts(found, 0.2)[0]


@pytest.mark.parametrize("holdout", [0.05, 0.2, 0.5])
def test_the_holdout_has_about_its_share(holdout: float) -> None:
    images = tuple(
        CalibrationImage(Path(), sha256_of(b"%d" % number), (64, 48)) for number in range(1000)
    )
    cells = np.random.default_rng(0).integers(0, 256, (1000, 32, 32)).astype(np.uint8)
    found = CalibrationSet(images, "", (), tuple(cells))
    calibration, held_out = found.split(holdout)
    assert len(calibration) + len(held_out) == 1000
    assert abs(len(held_out) / 1000 - holdout) < 0.04


@pytest.mark.parametrize(
    ("holdout", "part"), [(0.5, "judge by"), (1.0, "calibrate from"), (0.0, "judge by")]
)
def test_an_empty_part_is_an_error(holdout: float, part: str) -> None:
    images = tuple(CalibrationImage(Path(), sha256_of(b"%d" % n), (64, 48)) for n in range(30))
    found = CalibrationSet(images, "", (), (flat(100),) * 30)
    with pytest.raises(ConfigError, match=f"of its 30 images none is left to {part}"):
        found.split(holdout)


# --- the network's view ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "batch"),
    [(0, 4), (1, 1), (1, 4), (3, 4), (4, 4), (5, 4), (9, 4), (2, 5), (5, 1)],
)
def test_every_batch_is_full_and_every_image_is_in_order(
    count: int, batch: int, tmp_path: Path
) -> None:
    images = read_calibration(fill(tmp_path, 12)).images[:count]
    batches = list(letterboxed(images, SQUARE, batch))
    assert len(batches) == -(-count // batch)
    rows = [row for rows in batches for row in rows]
    assert len(rows) == len(batches) * batch
    for number, row in enumerate(rows):
        source = read_image(images[number % count].path)
        assert (row == drawn(source, SQUARE)).all()


def drawn(source: Image, preprocessing: Preprocessing) -> Image:
    row = np.zeros((*preprocessing.input_wh[::-1], 3), np.uint8)
    size_wh = (source.shape[1], source.shape[0])
    anchor = preprocessing.pad_anchor
    Letterbox.fit(size_wh, preprocessing.input_wh, anchor).draw(source, row)
    return row


@pytest.mark.parametrize("anchor", PadAnchor)
def test_images_are_drawn_as_live_frames_are(anchor: PadAnchor, tmp_path: Path) -> None:
    images = read_calibration(fill(tmp_path, 12)).images[:1]
    preprocessing = Preprocessing((80, 64), anchor)
    ((row,),) = letterboxed(images, preprocessing, 1)
    assert row.shape == (64, 80, 3)
    assert row.dtype == np.uint8
    assert (row == drawn(read_image(images[0].path), preprocessing)).all()
    assert (row[-1] == PAD_GREY).all()
    assert (row[0] == PAD_GREY).all() == (anchor is PadAnchor.CENTER)


def test_batches_can_be_kept(tmp_path: Path) -> None:
    images = read_calibration(fill(tmp_path, 12)).images
    first, second = letterboxed(images[:2], SQUARE, 1)
    assert (first != second).any()


def test_a_file_that_is_gone_fails_the_build(tmp_path: Path) -> None:
    images = read_calibration(fill(tmp_path, 12)).images
    images[3].path.unlink()
    with pytest.raises(BuildError, match="was the folder changed"):
        list(letterboxed(images, SQUARE, 4))


@pytest.mark.parametrize(("order", "first"), [(ChannelOrder.RGB, 30), (ChannelOrder.BGR, 10)])
@pytest.mark.parametrize("divisor", [255.0, 1.0])
def test_channels_and_scale_are_the_networks(
    order: ChannelOrder, first: int, divisor: float
) -> None:
    frames = np.empty((2, 3, 5, 3), np.uint8)
    frames[:] = (10, 20, 30)
    planes = to_network(frames, Preprocessing((5, 3), PadAnchor.CENTER, order, divisor))
    assert planes.shape == (2, 3, 3, 5)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    expected = np.array([first, 20, 40 - first], np.float32) / np.float32(divisor)
    assert (planes == expected[:, None, None]).all()


def test_the_graph_makes_the_very_same_of_frames() -> None:
    path = ASSETS / "parts.onnx"
    graph = deploy(path, ModelConfig(path=path))
    model = onnx.load_from_string(graph.onnx_bytes)
    seen = onnx.helper.make_tensor_value_info(graph.network_input, onnx.TensorProto.FLOAT, None)
    del model.graph.output[:]
    model.graph.output.append(seen)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    width, height = graph.preprocessing.input_wh
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    (expected,) = session.run(None, {session.get_inputs()[0].name: frames})
    assert (to_network(frames, graph.preprocessing) == expected).all()


def test_a_thumbnail_survives_the_way_through_the_folder(tmp_path: Path) -> None:
    found = read_calibration(fill(tmp_path, 12))
    for image, cells in zip(found.images, found._thumbnails):
        assert is_alike(cells, thumbnail(picture(int(image.path.stem))))
