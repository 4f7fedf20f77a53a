from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
from enrolled import contents

from robollm.core.frame import Frame
from robollm.runtime import embed_files
from robollm.runtime.embed_files import LocalEmbedding
from robollm.runtime.enroll import enroll
from robollm.runtime.pixels import Region
from robollm.runtime.references import list_pictures


def test_an_image_that_is_too_large_is_a_bad_one(perceiver, pictures, tmp_path, monkeypatch):
    cv2.imwrite(str(pictures / "a" / "0.png"), np.zeros((3, 121, 3), np.uint8))
    monkeypatch.setattr(perceiver, "config", replace(perceiver.config, max_image_side=120))
    done = enroll(perceiver, pictures, tmp_path / "gallery")
    assert (done.images, list(done.bad)) == (18, ["a/0.png"])
    assert "121x3 px" in done.bad["a/0.png"]


def test_an_image_that_was_cut_off_is_a_bad_one(perceiver, pictures, tmp_path):
    file = pictures / "a" / "1.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    done = enroll(perceiver, pictures, tmp_path / "gallery")
    assert (done.images, list(done.bad)) == (17, ["a/1.jpg"])


def test_an_image_a_pixel_high_is_embedded(perceiver, pictures, tmp_path):
    cv2.imwrite(str(pictures / "a" / "0.png"), np.full((1, 3000, 3), 9, np.uint8))
    assert enroll(perceiver, pictures, tmp_path / "gallery").images == 19


def test_what_only_looks_like_a_picture_or_a_product_is_named(perceiver, pictures, tmp_path):
    (pictures / "loop").symlink_to("loop")
    (pictures / "again").symlink_to(".")
    (pictures / "a" / "self.jpg").symlink_to("self.jpg")
    (pictures / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    (pictures / "a" / "folder.jpg").mkdir()
    os.mkfifo(pictures / "a" / "pipe.jpg")
    (pictures / " ").mkdir()
    (pictures / ".snapshot").mkdir()
    (pictures / "a" / "._1.jpg").write_bytes(b"what a Mac leaves")
    done = enroll(perceiver, pictures, tmp_path / "gallery")
    assert done.images == 18
    assert done.bad.keys() == {
        " ", "a/self.jpg", "a/gone.jpg", "a/folder.jpg", "a/pipe.jpg"
    } | ({"loop"} & done.bad.keys())  # fmt: skip
    assert done.empty == ("again",)
    assert done.others >= 2


def test_names_in_any_script_are_kept_and_those_that_are_no_text_are_named(
    perceiver, drawn, tmp_path
):
    folder = tmp_path / "pictures"
    for product in ("Grüße 'quoted\" %s", "箱子\n2"):
        shutil.copytree(drawn / "a", folder / product)
    os.rename(folder / "箱子\n2" / "1.jpg", os.fsencode(folder / "箱子\n2") + b"/\xff.jpg")  # noqa: PTH104
    os.mkdir(os.fsencode(folder) + b"/\xfe")  # noqa: PTH102
    done = enroll(perceiver, folder, tmp_path / "gallery")
    assert done.images == 5
    assert set(done.bad) == {"\\xfe", "箱子\n2/\\xff.jpg"}
    assert {row[0] for row in contents(tmp_path / "gallery").values()} == {
        "Grüße 'quoted\" %s", "箱子\n2"
    }  # fmt: skip


def test_a_picture_that_the_model_makes_nothing_of_is_a_bad_one(
    perceiver, drawn, tmp_path, monkeypatch
):
    real = perceiver.embed

    def embed(regions):
        vectors = real(regions)
        vectors[0], vectors[1] = np.nan, 0
        return vectors

    monkeypatch.setattr(perceiver, "embed", embed)
    done = enroll(perceiver, drawn, tmp_path / "gallery")
    assert list(done.bad) == ["a/1.jpg", "a/2.jpg", "f/2.jpg", "f/3.jpg"]
    assert all("no usable vector" in why for why in done.bad.values())


def test_a_sideways_photo_is_turned_as_its_exif_says(perceiver, drawn, tmp_path):
    upright = cv2.imread(str(drawn / "a" / "1.jpg"))
    raw = cv2.imencode(".jpg", cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    tag = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
    exif = b"Exif\0\0" + tag
    turned = raw[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + raw[2:]
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    (tmp_path / "pictures" / "a" / "1.jpg").write_bytes(turned)
    enroll(perceiver, tmp_path / "pictures", tmp_path / "gallery")
    (got,) = contents(tmp_path / "gallery").values()
    (want,) = perceiver.embed([Region(Frame(upright, "bgr", 1, stream="upright"))])
    assert float(got[2].astype(np.float32) @ want) > 0.999


# reading ahead


def test_a_vector_does_not_depend_on_the_pictures_beside_it(
    perceiver, drawn, monkeypatch, sketch_bundle
):
    listed = list_pictures(drawn).pictures
    together = {s.picture.source: s.vector for s in LocalEmbedding(perceiver)(listed, {})}
    monkeypatch.setattr(embed_files, "BATCH_MAX", 1)
    for number, picture in enumerate(listed, start=100):  # other numbers: nothing is remembered
        one = replace(picture, number=number)
        (alone,) = LocalEmbedding(perceiver)([one], {})
        np.testing.assert_allclose(alone.vector, together[picture.source], atol=1e-5)


def test_results_come_in_order_and_no_more_work_is_begun_than_was_allowed():
    begun = []
    with ThreadPoolExecutor(4) as pool:
        results = embed_files.in_order(pool, lambda n: begun.append(n) or n, range(1, 50), most=5)
        for n, result in enumerate(results, start=1):
            assert result == n
            assert max(begun) <= n + 5


def test_large_pictures_are_not_heaped_up(monkeypatch):
    monkeypatch.setattr(embed_files, "AHEAD_BYTES", 20)
    begun = []
    with ThreadPoolExecutor(4) as pool:
        results = embed_files.in_order(
            pool, lambda n: begun.append(n) or n, range(1, 50), most=8, size=lambda n: 10
        )
        for n, result in enumerate(results, start=1):
            assert result == n
            assert n < 8 or max(begun) <= n + 2, "two wait, though eight might"
    assert sorted(begun) == list(range(1, 50))
