from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))
from compare_kit import defects, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    good = write_run(folder / "good", {"defects": defects(range(240, 250))})
    bad = write_run(folder / "bad", {"defects": defects({*range(0, 60, 3), *range(240, 250)})})
    return good, bad


def test_a_regression_ends_with_1_and_names_figure_and_samples(robollm, runs):
    said = robollm("eval", "compare", *runs, "--draws", 100)
    assert said.code == 1
    assert "Regression: 1 of 2 figures, defects image_combined_recall" in said.out
    assert f"lost: {0:021d}/0 (multi_pick): multi_pick (0.90)" in said.out
    assert "20 lost, 0 won" in said.out
    assert "10 more lost" in said.out


def test_no_regression_ends_with_0_and_json_is_one_object(robollm, runs, tmp_path):
    page = tmp_path / "page.html"
    said = robollm("eval", "compare", runs[1], runs[0], "--draws", 100, "--json", "--html", page)
    card = json.loads(said.out)
    assert (said.code, card["regressed"], len(card["won"])) == (0, False, 20)
    text = page.read_text()
    assert f"{0:021d}/0" in text
    assert "image_combined_recall" in text
    assert "http" not in text  # nothing is fetched


def test_a_lost_sample_ends_with_2_until_it_is_allowed(robollm, runs, tmp_path):
    part = write_run(tmp_path / "part", {"defects": defects(range(240, 250))[:250]})
    words = ("eval", "compare", runs[0], part, "--draws", 100, "--json")
    said = robollm(*words)
    card = json.loads(said.out)
    assert (said.code, card["exit_code"], card["regressed"]) == (2, 2, False)
    assert "50 of 300 samples of defects are in the first run only" in card["missing"][0]
    assert robollm(*words, "--allow-missing").code == 0


def test_what_cannot_be_compared_ends_with_2_and_a_fix(robollm, runs, tmp_path):
    other = write_run(tmp_path / "other", {"defects": defects(count=3)[:0]})
    for words in ((runs[0], other), (runs[0], tmp_path), (runs[0], tmp_path / "none")):
        said = robollm("eval", "compare", *words)
        assert (said.code, said.out) == (2, "")
        assert said.err


def test_a_name_out_of_the_data_does_not_become_part_of_the_page(robollm, tmp_path):
    import dataclasses

    evil = "<script>alert(1)</script>"
    good = defects(count=90)
    bad = defects({0}, count=90)
    both = [[dataclasses.replace(r, file=evil) for r in some] for some in (good, bad)]
    a, b = (write_run(tmp_path / n, {"defects": r}) for n, r in zip("ab", both, strict=True))
    robollm("eval", "compare", a, b, "--draws", 100, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert evil not in text
    assert "&lt;script&gt;" in text
