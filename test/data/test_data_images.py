"""Image files of datasets: what is read, and what is wrong with those that aren't."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from robollm.core.errors import FrameError
from robollm.data.images import image_size, read_image

RGB = np.random.default_rng(5).integers(0, 256, (40, 56, 3)).astype(np.uint8)
KINDS = {
    "baseline": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]),
    "progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "restarts": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    "png": (".png", []),
}


def packed(kind, rgb=RGB):
    suffix, options = KINDS[kind]
    return cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]), options)[1].tobytes()


def with_segment(raw, code, body):
    """A JPEG with one more segment behind its first marker."""
    segment = bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body
    return raw[:2] + segment + raw[2:]


def refused(file, kind):
    with pytest.raises(FrameError) as error:
        read_image(file)
    assert error.value.kind == kind
    assert str(file) in error.value.what
    return error.value.what


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.jpg"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_in_rgb_order(file, kind):
    smooth = cv2.resize(np.array([[[250, 10, 20], [10, 10, 240]]], np.uint8), (56, 40))
    file.write_bytes(packed(kind, smooth))
    found = read_image(file)
    assert found.shape == (40, 56, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - smooth).mean() < 4
    assert image_size(file) == (40, 56)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_anywhere_is_truncated_unless_no_pixel_is_lost(file, kind):
    raw = packed(kind)
    file.write_bytes(raw)
    whole = read_image(file)
    ends = {*range(1, 700, 7), *range(700, len(raw), 97), *range(len(raw) - 12, len(raw))}
    for end in sorted(ends):
        file.write_bytes(raw[:end])
        if kind != "png" and len(raw) - end <= 2:  # but for the end-of-image marker all is there
            np.testing.assert_array_equal(read_image(file), whole)
        else:
            assert f"cut off: {end} bytes" in refused(file, "truncated_image")


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
@pytest.mark.parametrize("filling", [b"", b"\0" * 3000, b"\xff" * 3000])
def test_a_jpeg_without_an_end_is_read_if_all_of_it_is_there(file, kind, filling):
    flat = np.full((48, 64, 3), 128, np.uint8)  # as grey as what a decoder puts for missing data
    flat[:20, :20] = RGB[:20, :20]
    for rgb in (RGB,) if filling else (RGB, flat):
        raw = packed(kind, rgb)
        file.write_bytes(raw)
        whole = read_image(file)
        file.write_bytes(raw[:-2] + filling)
        np.testing.assert_array_equal(read_image(file), whole)
        file.write_bytes(raw[:-8] + filling)
        refused(file, "truncated_image")


def test_a_progressive_jpeg_that_ends_between_two_scans_is_truncated(file):
    raw = packed("progressive")
    scans = [n for n in range(len(raw)) if raw.startswith(b"\xff\xda", n)]
    tables = [raw.rfind(b"\xff\xc4", 0, n) for n in scans]
    assert len(scans) > 5
    for end in (*tables[1:], *scans[1:]):
        file.write_bytes(raw[:end])
        refused(file, "truncated_image")


@pytest.mark.parametrize("keep", [1, 5, 8, 19])
def test_a_jpeg_that_ends_at_a_restart_is_truncated(file, keep):
    raw = packed("restarts", np.full((160, 64, 3), 128, np.uint8))
    restarts = [n for n in range(len(raw)) if raw[n] == 0xFF and 0xD0 <= raw[n + 1] <= 0xD7]
    assert len(restarts) >= keep
    for end in (restarts[-keep], restarts[-keep] + 2):
        file.write_bytes(raw[:end])
        refused(file, "truncated_image")


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(file, kind):
    raw = packed(kind)
    whole = with_segment(raw, 0xE1, b"Exif\0\0" + raw[:3000] + b"\xff\xd9")
    file.write_bytes(whole)
    assert read_image(file).shape == RGB.shape
    file.write_bytes(whole[:-40])
    refused(file, "truncated_image")


def test_bytes_behind_the_end_do_no_harm(file):
    file.write_bytes(packed("baseline") + bytes(500))
    assert read_image(file).shape == RGB.shape


def test_the_rest_of_a_download_filled_with_zeros_is_missed(file):
    raw = packed("baseline")
    file.write_bytes(raw[:2500] + bytes(len(raw) - 2500))
    refused(file, "truncated_image")


def test_pixels_stay_as_stored_whatever_the_orientation_says(file):
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + bytes(4)
    file.write_bytes(with_segment(packed("baseline"), 0xE1, b"Exif\0\0" + tiff))
    assert cv2.imread(str(file)).shape == (56, 40, 3)
    assert read_image(file).shape == (40, 56, 3)


def test_a_grey_image_and_one_with_alpha_become_rgb(file):
    for picture in (RGB[..., 0], np.dstack([RGB, RGB[..., 0]])):
        file.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        assert read_image(file).shape == RGB.shape


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in refused(tmp_path / "no.jpg", "missing_image")
    refused(tmp_path, "missing_image")


def test_an_empty_file_is_named(file):
    file.write_bytes(b"")
    refused(file, "empty_image")
    with pytest.raises(FrameError, match="is empty"):
        image_size(file)


@pytest.mark.parametrize("raw", [b"<html>404</html>", b"\0" * 900, b"GIF89a" + b"1" * 30])
def test_what_is_no_image_is_corrupt(file, raw):
    file.write_bytes(raw)
    assert "it begins with" in refused(file, "corrupt_image")
    with pytest.raises(FrameError, match="not a JPEG or PNG"):
        image_size(file)


def test_a_jpeg_without_a_scan_is_corrupt(file):
    file.write_bytes(b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9")
    assert "can't decode" in refused(file, "corrupt_image")


def test_a_png_with_a_wrong_checksum_is_corrupt(file):
    raw = bytearray(packed("png"))
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert "wrong checksum" in refused(file, "corrupt_image")


def test_an_image_beyond_opencvs_limit_is_corrupt_and_not_a_crash(file):
    raw = packed("png")
    body = b"IHDR" + struct.pack(">II", 2**20, 2**20) + raw[24:29]
    file.write_bytes(raw[:12] + body + struct.pack(">I", zlib.crc32(body)) + raw[33:])
    refused(file, "corrupt_image")


def test_the_size_of_a_file_with_a_long_preface_is_found(file):
    raw = packed("baseline")
    for _ in range(3):
        raw = with_segment(raw, 0xE2, bytes(40000))
    file.write_bytes(raw)
    assert image_size(file) == (40, 56)


def test_a_head_that_ends_before_the_size_is_truncated(file):
    file.write_bytes(packed("baseline")[:60])
    with pytest.raises(FrameError) as error:
        image_size(file)
    assert error.value.kind == "truncated_image"
