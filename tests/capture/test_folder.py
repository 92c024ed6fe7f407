from __future__ import annotations

import logging
from pathlib import Path
from typing import List, Optional

import pytest

from edge.capture.folder import FolderSource
from edge.capture.source import Picture
from edge.errors import CaptureError
from tests.capture.conftest import Media, make_pictures


def read_many(source: FolderSource, count: int) -> List[Optional[Picture]]:
    source.open()
    return [source.read() for _ in range(count)]


def levels(pictures: List[Optional[Picture]]) -> List[Optional[int]]:
    return [None if picture is None else int(picture.image.mean()) for picture in pictures]


def test_plays_the_readable_images_by_name_and_ends(media: Media) -> None:
    pictures = read_many(FolderSource(media.folder / "pictures", 2.0, loop=False), 5)
    assert levels(pictures) == [10, 20, 30, None, None]
    assert [p.media_s for p in pictures if p] == [0.0, 0.5, 1.0]
    assert all(p.image.shape == (24, 32, 3) and p.image.flags.c_contiguous for p in pictures if p)


def test_loops_while_time_goes_on(media: Media) -> None:
    pictures = read_many(FolderSource(media.folder / "pictures", 4.0, loop=True), 7)
    assert levels(pictures) == [10, 20, 30, 10, 20, 30, 10]
    assert [p.media_s for p in pictures if p] == [n / 4 for n in range(7)]


def test_an_unreadable_image_is_counted_and_logged_once(
    media: Media, caplog: pytest.LogCaptureFixture
) -> None:
    source = FolderSource(media.folder / "pictures", 2.0, loop=True)
    with caplog.at_level(logging.WARNING):
        read_many(source, 9)
    assert source.unreadable_files == 1
    assert [record.getMessage().split(" is skipped")[0] for record in caplog.records] == [
        str(media.folder / "pictures" / "c.jpg")
    ]


def test_a_new_image_joins_on_the_next_lap(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    make_pictures(folder)
    source = FolderSource(folder, 2.0, loop=True)
    assert levels(read_many(source, 3)) == [10, 20, 30]
    (folder / "b2.png").write_bytes((folder / "a.PNG").read_bytes())
    assert levels([source.read() for _ in range(4)]) == [10, 20, 10, 30]


def test_opening_again_starts_over(media: Media) -> None:
    source = FolderSource(media.folder / "pictures", 2.0, loop=True)
    read_many(source, 2)
    source.close()
    source.close()
    again = read_many(source, 1)
    assert levels(again) == [10]
    assert again[0] is not None
    assert again[0].media_s == 0.0


def test_bad_folders_are_named_with_the_reason(tmp_path: Path) -> None:
    empty, rubbish = tmp_path / "empty", tmp_path / "rubbish"
    empty.mkdir()
    rubbish.mkdir()
    (rubbish / "a.jpg").write_text("no picture")
    (rubbish / "b.png").touch()
    (rubbish / "c.bmp").mkdir()
    for folder, words in (
        (tmp_path / "absent", "No such file"),
        (empty, "has no images"),
        (rubbish, "none of the images"),
    ):
        with pytest.raises(CaptureError, match=words) as caught:
            read_many(FolderSource(folder, 2.0, loop=True), 1)
        assert str(folder) in str(caught.value)
