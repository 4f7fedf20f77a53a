"""A gallery that a run was given is a part of what the run is: another content is another run."""

from __future__ import annotations

import shutil

import pytest
from in_process import answered
from tiny_armbench import write_picks

from robollm.core.errors import EvalError
from robollm.eval.compare import compare
from robollm.eval.gate import Question
from robollm.eval.score import score
from robollm.gallery.compact import compact_gallery
from robollm.gallery.store import open_writer


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A run that searches a gallery of four products, and that gallery."""
    write_picks(tmp_path / "data", products=4, count=4)
    made = answered(monkeypatch, tmp_path / "data", tmp_path / "made")
    shutil.copytree(made.path / "gallery", tmp_path / "gallery")
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run", gallery=tmp_path / "gallery")
    return run, tmp_path / "gallery"


def change(gallery):
    with open_writer(gallery) as writer:
        writer.remove_product("B001")
        writer.commit()


def test_a_given_gallery_that_changed_is_refused_by_score_compare_and_resume(
    given, tmp_path, monkeypatch
):
    run, gallery = given
    before = repr(score(run, draws=100))
    change(gallery)
    words = r"has changed .*: it has 6 references of 3 products \(generation 2, .*want 8 of 4"
    with pytest.raises(EvalError, match=words):
        score(run, draws=100)
    with pytest.raises(EvalError, match=words):
        compare(run.path, tmp_path / "made", Question(draws=100))
    with pytest.raises(EvalError, match=r"another run: gallery_state\.products is 4 there and 3"):
        answered(monkeypatch, tmp_path / "data", run.path, gallery=gallery)
    shutil.rmtree(gallery)
    shutil.copytree(tmp_path / "made" / "gallery", gallery)
    assert repr(score(run, draws=100)) == before


def test_a_given_gallery_may_move_and_be_compacted(given, tmp_path, monkeypatch):
    run, gallery = given
    before = repr(score(run, draws=100))
    moved = gallery.rename(tmp_path / "moved")
    compact_gallery(moved)
    run = answered(monkeypatch, tmp_path / "data", run.path, gallery=moved)
    assert repr(score(run, draws=100)) == before


def test_a_run_of_an_earlier_version_with_a_given_gallery_is_refused_in_words(given):
    run, _ = given
    del run.card["gallery_state"]
    with pytest.raises(EvalError, match="doesn't say what was in the gallery"):
        score(run, draws=100)
