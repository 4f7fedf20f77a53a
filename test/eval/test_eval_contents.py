"""A run goes on with the pictures that it was begun with; a copy of them will do."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from in_process import answered
from tiny_armbench import picture, write_all

from robollm.core.errors import EvalError
from robollm.data.armbench_defects import IMAGE_ROOT, VIDEO_ROOT
from robollm.data.armbench_identification import ROOT as PICKS
from robollm.data.armbench_segmentation import MIX, ROOT
from robollm.eval.contents import END, fingerprint


@pytest.fixture
def data(tmp_path):
    return write_all(tmp_path / "data")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (f"{ROOT}/{MIX}/images/mix001.jpg", f"of 4 answered samples of segmentation/{MIX}"),
        (f"{PICKS}/Picks/pick0001/PickRGB.jpg", "1 of 8 answered samples of identification"),
        (f"{IMAGE_ROOT}/data/{0:021}/{0:021}_0.jpg", "answered samples of defects"),
        (f"{VIDEO_ROOT}/*/v0.mp4", "answered samples of videos"),
    ],
)
def test_other_pictures_are_another_run_and_a_copy_is_the_same(
    data, tmp_path, monkeypatch, file, words
):
    part, copy = tmp_path / "data1", tmp_path / "copy" / "data1"
    shutil.copytree(data / file.partition("/")[0], part / file.partition("/")[0])
    run = answered(monkeypatch, part, tmp_path / "run")
    shutil.copytree(part, copy, copy_function=shutil.copyfile)  # with other times of change
    answered(monkeypatch, copy, run.path)
    (one,) = copy.glob(file)
    one.write_bytes(one.read_bytes()[:-9] + b"other end")
    with pytest.raises(EvalError, match=f"answered from other pictures.*{words}") as caught:
        answered(monkeypatch, copy, run.path)
    assert "another --out" in str(caught.value)


def test_a_sample_without_an_answer_may_get_its_picture_later(tmp_path, monkeypatch):
    data = write_all(tmp_path / "all") / PICKS
    one = data / "Picks" / "pick0001" / "PickRGB.jpg"
    kept = one.read_bytes()
    for view in one.parent.glob("*.jpg"):
        view.write_bytes(b"no picture")
    run = answered(monkeypatch, data, tmp_path / "run")
    assert run.keys("identification", failed=True) == {"pick0001"}
    one.write_bytes(kept)
    run = answered(monkeypatch, data, tmp_path / "run")
    assert run.keys("identification", failed=True) == set()
    one.write_bytes(picture(77))
    with pytest.raises(EvalError, match="other pictures"):
        answered(monkeypatch, data, tmp_path / "run")


def test_a_run_of_an_earlier_version_is_refused_in_words(data, tmp_path, monkeypatch):
    run = answered(monkeypatch, data / PICKS, tmp_path / "run")
    shutil.rmtree(run.path / "contents")
    with pytest.raises(EvalError, match=r"an earlier robollm began it(.|\n)*begin anew"):
        answered(monkeypatch, data / PICKS, run.path)


@pytest.mark.parametrize("size", [0, 1, END, END + 1, 2 * END, 2 * END + 1])
def test_a_fingerprint_is_of_the_size_and_of_both_ends(tmp_path, size):
    raw = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    file = tmp_path / "file"
    raw.tofile(file)
    known = fingerprint(file)
    assert known.startswith(f"{size}-")
    for place in {0, size - 1} if size else ():
        other = raw.copy()
        other[place] ^= 1
        other.tofile(file)
        assert fingerprint(file) != known
    np.append(raw, np.uint8(0)).tofile(file)
    assert fingerprint(file) != known
    assert fingerprint(tmp_path / "nothing") == ""
