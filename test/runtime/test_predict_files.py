"""What a person's words stand for, and what is read from the files."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from robollm.core.errors import ConfigError, FrameError
from robollm.runtime.predict import view_name
from robollm.runtime.predict_files import list_pictures, make_folder, output_names, read_frame

JOINED = ("image", "tote_wall", "on_arm_low")


@pytest.fixture
def folder(tmp_path):
    """Pictures by name only: a.jpg b.PNG note.txt .c.jpg deep/d.jpeg deep/e.png."""
    (tmp_path / "deep").mkdir()
    for name in ("b.PNG", "a.jpg", "note.txt", ".c.jpg", "deep/e.png", "deep/d.jpeg"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_stands_for_its_pictures_and_what_is_left_out_is_counted(folder):
    got = list_pictures([str(folder)])
    assert [f.name for f in got.files] == ["a.jpg", "b.PNG"]
    assert got.others == {str(folder): 2}
    assert got.folders == {str(folder): 1}
    assert not got.bad
    assert len(got.notes) == 2
    assert all(str(folder) in note for note in got.notes)


@pytest.mark.parametrize(
    ("pattern", "want"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.png", ["e.png"]),
        ("**", ["a.jpg", "b.PNG", "d.jpeg", "e.png"]),
        ("?.*", ["a.jpg", "b.PNG"]),
        ("deep/[de].*", ["d.jpeg", "e.png"]),
    ],
)
def test_a_pattern_stands_for_the_pictures_that_match(folder, monkeypatch, pattern, want):
    assert [f.name for f in list_pictures([str(folder / pattern)]).files] == want
    monkeypatch.chdir(folder)
    assert [f.name for f in list_pictures([pattern]).files] == want


def test_a_file_of_that_very_name_comes_before_the_pattern(folder):
    (folder / "[a].jpg").touch()
    assert [f.name for f in list_pictures([str(folder / "[a].jpg")]).files] == ["[a].jpg"]


def test_every_word_keeps_its_place_and_a_picture_is_taken_once(folder):
    (folder / "again.jpg").symlink_to(folder / "a.jpg")
    words = [folder / "deep", folder / "again.jpg", folder / "deep" / "e.png", folder / "a.jpg"]
    got = list_pictures([str(w) for w in words])
    assert [f.name for f in got.files] == ["d.jpeg", "e.png", "again.jpg"]
    assert got.repeated == 2
    assert got.notes == ["2 pictures were named more than once; each is taken once"]


def test_words_that_stand_for_nothing_are_named(folder):
    (folder / "empty").mkdir()
    words = [str(folder / w) for w in ("empty", "*.bmp", "note.t?t")]
    got = list_pictures(words)
    assert got.files == ()
    assert list(got.bad) == words
    assert all(e.fix for e in got.bad.values())
    assert got.others == {words[2]: 1}


def test_a_named_file_is_not_judged_by_its_name(folder):
    words = [str(folder / "note.txt"), str(folder / "nothing.jpg")]
    assert [str(f) for f in list_pictures(words).files] == words


# reading


def test_a_picture_is_turned_as_people_see_it(tmp_path):
    """Stored 40 x 20 px with the left half white; EXIF 6: a quarter turn clockwise."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "JPEG", exif=exif, quality=95)
    (tmp_path / "turned.jpg").write_bytes(packed.getvalue())
    frame = read_frame(tmp_path / "turned.jpg", max_side=100)
    assert frame.hw == (40, 20)
    assert frame.pixels[:18].min() > 200
    assert frame.pixels[22:].max() < 50


def test_grey_deep_and_transparent_pictures_become_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    for name, stored, want in (
        ("grey", rgb[..., 0], rgb[..., :1].repeat(3, axis=2)),
        ("deep", rgb[..., ::-1].astype(np.uint16) * 256, rgb),
        ("alpha", np.dstack([rgb[..., ::-1], rgb[..., 0]]), rgb),
    ):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), stored)
        frame = read_frame(tmp_path / f"{name}.png", max_side=100)
        assert frame.order == "rgb"
        np.testing.assert_array_equal(frame.pixels, want, err_msg=name)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda p: None, "missing_image"),
        (lambda p: p.mkdir(), "missing_image"),
        (lambda p: p.touch(), "empty_image"),
        (lambda p: p.write_text("no picture"), "corrupt_image"),
        (lambda p: p.write_bytes(cv2.imencode(".png", np.eye(50))[1].tobytes()[:-20]),
         "truncated_image"),
        (lambda p: p.write_bytes(cv2.imencode(".png", np.zeros((3, 101)))[1].tobytes()),
         "image_too_large"),
    ],
)  # fmt: skip
def test_a_bad_file_is_an_error_with_its_name_and_a_fix(tmp_path, make, kind):
    file = tmp_path / "bad.png"
    make(file)
    with pytest.raises(FrameError, match=r"bad\.png") as e:
        read_frame(file, max_side=100)
    assert e.value.kind == kind
    assert e.value.fix


# names


def test_drawings_of_files_with_the_same_name_have_different_ones():
    files = [Path(p) for p in ("x/a.jpg", "y/A.png", "a-2.jpg", "z/a.jpg", "b.jpg", "y/a-2.jpg")]
    names = output_names(files)
    assert names[0] == "a"
    assert names[2] == "a-2"
    assert names[4] == "b"
    assert len({n.casefold() for n in names}) == len(files)


def test_the_folder_of_the_results_is_new_or_empty(tmp_path):
    make_folder(tmp_path / "new" / "one")
    make_folder(tmp_path / "new" / "one")
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError) as e:
            make_folder(bad)
        assert e.value.fix


@pytest.mark.parametrize(
    ("file", "asked", "joined", "want"),
    [
        ("mine.jpg", None, JOINED, "tote_wall"),  # the first after the pick
        ("OnArmLowRGB.jpg", None, JOINED, "on_arm_low"),
        ("PickRGB.jpg", None, JOINED, "image"),
        ("far_tray.jpg", None, JOINED, "tote_wall"),  # which this bundle doesn't join
        ("mine.jpg", "OnArmLowRGB", JOINED, "on_arm_low"),
        ("tote_wall.jpg", "image", JOINED, "image"),
        ("mine.jpg", None, ("image",), "image"),
        ("mine.jpg", None, (), "view"),
        ("far_tray.jpg", None, (), "far_tray"),
        ("mine.jpg", "elsewhere", (), "elsewhere"),
    ],
)
def test_the_view_is_what_was_said_else_the_files_name_else_the_first_after_the_pick(
    file, asked, joined, want
):
    assert view_name(Path(file), asked, joined) == want


def test_a_view_that_the_bundle_does_not_join_is_refused_with_those_that_it_does():
    with pytest.raises(ConfigError, match="image, tote_wall, on_arm_low"):
        view_name(Path("x.jpg"), "far_tray", JOINED)


def test_a_link_to_itself_is_a_picture_that_can_not_be_read(folder):
    (folder / "loop.png").symlink_to("loop.png")
    assert [f.name for f in list_pictures([str(folder)]).files] == ["a.jpg", "b.PNG", "loop.png"]
    (loop,) = list_pictures([str(folder / "loop.png")]).files
    with pytest.raises(FrameError, match="can't be read"):
        read_frame(loop, max_side=100)
