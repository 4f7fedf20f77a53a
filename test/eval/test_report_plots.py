"""Plots: what is drawn, and that a page can take it."""

import math
import re

import numpy as np
import pytest
from report_kit import interval, make_metrics

from robollm.core.errors import EvalError
from robollm.eval.embedding import flatten
from robollm.eval.figures import Curve, Embeddings, Histogram, Section
from robollm.eval.report import plots
from robollm.eval.report.drawings import section_drawings, task_drawings


def _curve(x: list[float], y: list[float], label: str = "a", kind: str = "pr") -> Curve:
    return Curve(kind, tuple(x), tuple(y), "recall", "precision", label)


def _section(**more: object) -> Section:
    known = {"figures": {}, **more}
    return Section("defects", "", "test", "", 1, 1, "induct", **known)


def test_a_plot_has_text_as_text_and_colours_of_the_page():
    svg = plots.curves("one", [_curve([0, 1], [1, 0.5], "mine"), _curve([0, 1], [1, 0.2], "b")])
    assert svg.startswith("<svg ")
    assert re.search(r"<text[^>]*>mine</text>", svg)
    assert "var(--line0)" in svg
    assert "var(--line1)" in svg
    assert "#0a00" not in svg
    assert "DejaVu" not in svg
    assert "<style" not in svg  # its rules would be the whole page's


def test_a_plot_names_no_address_and_no_date():
    svg = plots.curves("one", [_curve([0, 1], [1, 0.5])])
    assert "http" not in svg
    assert "metadata" not in svg


def test_the_same_plot_gives_the_same_text_and_another_name_other_ids():
    line = [_curve([0, 1], [1, 0.5])]
    first, again, other = (plots.curves(n, line) for n in ("one", "one", "two"))
    assert first == again
    ids = {svg: set(re.findall(r'\sid="([^"]+)"', svg)) for svg in (first, other)}
    assert ids[first]
    assert not ids[first] & ids[other]
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', first))
    assert used <= ids[first]


def test_a_title_with_markup_stays_text():
    svg = plots.histogram("one", Histogram((0, 1), (3,), "<ms>"), 'a"b', {"p50": 0.5})
    assert "<ms>" not in svg
    assert 'aria-label="Histogram of a&quot;b"' in svg
    assert "p50 0.5" in svg


def test_a_dollar_or_a_colour_in_a_name_is_text():
    said = "B0$_{$ #0a0099"
    curve = Curve("roc", (0.0, 1.0), (0.0, 1.0), "x", "y", said)
    assert f">{said}<" in plots.curves("n", [curve, curve])


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    x = np.linspace(0, 1, 10_000).tolist()
    xs, ys = plots.thinned(_curve(x, x))
    assert len(xs) <= plots.MOST_POINTS
    assert (xs[0], xs[-1]) == (0.0, 1.0)
    assert xs == ys


def test_points_without_a_value_are_left_out():
    assert plots.thinned(_curve([0, 0.5, 1], [1, math.nan, 0])) == ([0, 1], [1, 0])


def test_lines_of_pictures_and_of_inducts_get_plots_of_their_own():
    curves = {
        f"{level} {kind}": _curve([0, 1], [0, 1], f"{level} multi pick", kind)
        for level in ("image", "induct")
        for kind in ("roc", "pr")
    }
    titles = [d.title for d in section_drawings(_section(curves=curves), {})]
    assert sorted(titles) == ["Precision and recall"] * 2 + ["ROC"] * 2


def test_eight_lines_make_two_plots_of_four():
    curves = {str(i): _curve([0, 1], [0, i / 8], f"line {i}") for i in range(8)}
    drawn = section_drawings(_section(curves=curves), {})
    assert [d.svg.count(">line ") for d in drawn] == [4, 4]


def test_figures_by_range_become_one_plot_with_the_baseline_beside():
    figures = {f"recall@1_n1_manifest-{r}": interval(0.5) for r in ("2-9", "10-19")}
    figures["recall@1_n1_manifest-50+"] = interval(math.nan)
    (drawn,) = section_drawings(_section(figures=figures), {"thumbnail": _section(figures=figures)})
    assert drawn.title == "recall@1 by products in the manifest"
    assert ">recall@1_n1</text>" in drawn.svg
    assert ">thumbnail</text>" in drawn.svg
    assert ">2-9</text>" in drawn.svg
    assert "50+" not in drawn.svg


def test_a_range_that_lies_across_others_stands_apart_from_the_line(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        plots, "dots", lambda name, places, rows, **more: asked.update(at=places, **more) or ""
    )
    figures = {f"object_only_mask_mAP50_{r}": interval(0.5) for r in ("1-5", "6-12", "13-25")}
    figures["object_only_mask_mAP50_26+"] = interval(math.nan)
    figures["object_only_mask_mAP50_13+"] = interval(0.4)
    (drawn,) = section_drawings(_section(figures=figures), {})
    assert (asked["at"], asked["joined"]) == (["1-5", "6-12", "13-25", "13+"], 3)
    assert drawn.note.endswith("13+: across others, so it stands apart.")


def test_only_the_joined_places_have_a_line():
    row = [plots.Dots("ours", [(0.5, 0.4, 0.6)] * 3)]
    two, none = (plots.dots("d", "abc", row, x_label="x", y_label="y", joined=n) for n in (2, 0))
    assert two.count("<path") == none.count("<path") + 1


def test_stages_are_folded_and_the_total_is_not():
    bins = Histogram((0.0, 10.0, 20.0), (2, 1), "ms")
    stages = {"latency: read": bins, "latency: total": bins}
    figures = {"latency_total_p95": interval(0.9)}
    drawn = section_drawings(_section(histograms=stages, figures=figures), {})
    assert [(d.title, d.folded) for d in drawn] == [
        ("Latency: read", True),
        ("Latency: total", False),
    ]
    assert "p95" not in drawn[0].svg
    assert "p95 0.9" in drawn[1].svg


def test_the_published_models_stand_beside_ours_in_the_plot_by_subset():
    (drawn,) = task_drawings("segmentation", make_metrics())
    for text in ("ResNet50 [1]", "RoboLLM [2]", "Mixed object tote", "two_class"):
        assert text in drawn.svg


def test_only_products_with_wrong_queries_are_in_colour():
    points = ((0.0, 0.0, "good", True), (0.5, 0.1, "bad", False), (0.2, 0.1, "bad", None))
    svg = plots.embedding("one", Embeddings(points, "PCA"))
    assert "bad (1 wrong)" in svg
    assert ">good" not in svg


def test_few_vectors_are_laid_flat_by_their_main_directions():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 8)).astype(np.float32) * np.array([30, 3, *[0.01] * 6], "f4")
    flat, rows, method = flatten(vectors)
    assert method.startswith("PCA")
    assert rows.tolist() == list(range(20))
    for axis in (0, 1):
        wanted = vectors[:, axis] - vectors[:, axis].mean()
        assert abs(np.corrcoef(flat[:, axis], wanted)[0, 1]) > 0.99
    assert np.abs(flat).max() == pytest.approx(1)


def test_clusters_stay_together():
    rng = np.random.default_rng(1)
    centres = np.repeat(np.eye(3, 16, dtype=np.float32), 15, axis=0)
    vectors = centres + rng.normal(scale=0.02, size=(45, 16)).astype(np.float32)
    flat, rows, method = flatten(vectors)
    assert method.startswith("t-SNE")
    middles = np.stack([flat[rows // 15 == k].mean(0) for k in range(3)])
    own = np.linalg.norm(flat[:, None] - middles, axis=2).argmin(1)
    assert np.array_equal(own, rows // 15)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_vector_is_no_error(count):
    flat, rows, _ = flatten(np.ones((count, 4), np.float32))
    assert flat.shape == (count, 2)
    assert len(rows) == count


def test_too_many_vectors_are_drawn_from():
    flat, rows, _ = flatten(np.random.default_rng(0).normal(size=(90, 4)).astype("f4"), most=30)
    assert len(flat) == len(set(rows.tolist())) == 30


def test_vectors_that_are_no_numbers_are_refused():
    with pytest.raises(EvalError, match="finite"):
        flatten(np.full((3, 2), np.nan, np.float32))
