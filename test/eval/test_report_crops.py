"""How picks were cropped stands where their figures stand beside published ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from in_process import answered
from report_kit import make_metrics
from tiny_armbench import write_defects, write_picks

from robollm.data.armbench_identification import ROOT as PICKS
from robollm.eval.figures import Metrics
from robollm.eval.report.report import write_report
from robollm.eval.report.summary import banners, tiles
from robollm.eval.report.tables import table_8_2
from robollm.eval.score import score

ARMBENCH = {"data": {"kind": "armbench"}, "predictor": {"name": "bundle", "trained": True}}


def cropped(crop):
    sections = make_metrics().sections
    done = tuple(replace(s, crop=crop) if s.task == "identification" else s for s in sections)
    return replace(make_metrics(), partial=False, partial_reasons=(), sections=done)


@pytest.mark.parametrize(
    ("crop", "words"), [("segment", "crop segment"), ("image", "whole pictures")]
)
def test_the_head_of_our_columns_in_table_8_2_names_the_crop(crop, words):
    grid = table_8_2(cropped(crop), "tiny", "")
    ours = [c.note for c in grid.columns if c.kind == "ours"]
    assert len(ours) == 3
    assert all(note.endswith(f"; {words}") for note in ours)


def test_another_crop_than_the_published_one_has_a_banner_and_a_note():
    (banner,) = banners(ARMBENCH, cropped("segment"))
    assert banner.title == "Identification is not by the published protocol: crop segment"
    assert "annotated outline" in " ".join(banner.lines)
    told = " ".join(table_8_2(cropped("segment"), "tiny", "").caption)
    assert "[1] and [2] embed whole pictures" in told
    beside = {t.label: t.beside for t in tiles(cropped("segment"))}
    assert beside["recall@1 in the container, N=1, %"] == "RoboLLM 97.8, of whole pictures"


def test_whole_pictures_need_no_word_of_warning():
    assert banners(ARMBENCH, cropped("image")) == []
    assert "embed whole" not in " ".join(table_8_2(cropped("image"), "tiny", "").caption)
    assert {t.beside for t in tiles(cropped("image"))} >= {"RoboLLM 97.8"}


def test_the_crop_of_a_run_is_in_json_html_and_markdown(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    write_defects(tmp_path / "data", inducts=3)
    outline = '{"GT_ID": "B000", "segmentation": {"PickRGB": [[2, 2, 2, 8, 8, 8, 8, 2]]}}'
    (tmp_path / "data" / PICKS / "Picks" / "pick0000" / "annotation.json").write_text(outline)
    run = answered(
        monkeypatch, tmp_path / "data", tmp_path / "run", "chance", identification_crop="segment"
    )
    metrics = score(run, draws=100)
    told = metrics.to_json()
    assert {s["task"]: s["crop"] for s in told["sections"]} == {
        "identification": "segment", "defects": "box"
    }  # fmt: skip
    assert Metrics.from_json(told).section("identification").crop == "segment"
    for section in told["sections"]:
        del section["crop"]  # as they were written before
    assert Metrics.from_json(told).section("identification").crop == ""
    page = write_report(run, metrics)
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        assert "Identification is not by the published protocol: crop segment" in text
        assert "product, views fused; crop segment" in text
