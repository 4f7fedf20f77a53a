"""What the report says, without a browser."""

import dataclasses
import json
import math
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from report_kit import EVIL, MIX, make_metrics, make_run

from robollm.cli.eval.report import command
from robollm.core.errors import EvalError
from robollm.eval.figures import Metrics
from robollm.eval.report import published, write_report
from robollm.eval.report.grid import Value, measured, plural
from robollm.eval.report.summary import banners, name_of, rows, tiles
from robollm.eval.report.tables import table_8_1, table_8_2, table_8_3
from robollm.metrics.bootstrap import Interval


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run, its report and the report's text."""
    run = make_run(tmp_path_factory.mktemp("reported"))
    page = write_report(run, make_metrics())
    return run, page, page.read_text("utf-8")


class _Tags(HTMLParser):
    """Every element with its attributes; unclosed ones are found."""

    VOID = frozenset("meta link img input br path rect use".split())

    def __init__(self) -> None:
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def _tags(text):
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    return tags.found


def _cell(grid, group, label, column):
    """The cell of a row under the n-th column."""
    (row,) = [r for r in grid.rows if (r.group, r.label) == (group, label)]
    return row.values[column]


def test_the_page_is_well_formed_and_every_id_is_there_once(made):
    ids = [a["id"] for _, a in _tags(made[2]) if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_page_needs_no_other_file_and_no_network(made):
    for tag, attrs in _tags(made[2]):
        for name in ("src", "href", "srcset", "action"):
            value = attrs.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, name, value)
    assert not re.search(r"url\((?!#)|@import|https?:", made[2])
    assert "default-src 'none'" in made[2]


def test_banners_name_what_must_be_known_first(made):
    titles = [b.title for b in banners(made[0].card, make_metrics())]
    assert titles == [
        "Partial: these figures don't rest on all samples",
        "Untrained bundle",
        "Another dataset: simulated",
    ]
    assert all(title.replace("'", "&#39;") in made[2] for title in titles)
    assert "1 missing_image" in made[2]


def test_a_whole_run_of_a_trained_bundle_on_armbench_has_no_banner(made):
    card = made[0].card
    card = {
        **card,
        "data": {**card["data"], "kind": "armbench"},
        "predictor": {**card["predictor"], "trained": True},
    }
    whole = dataclasses.replace(make_metrics(), partial=False, partial_reasons=())
    assert banners(card, whole) == []


def test_an_oracle_is_named_and_is_no_bundle():
    card = {"predictor": {"name": "oracle"}, "data": {"kind": "armbench"}}
    assert name_of(card) == "oracle"
    whole = dataclasses.replace(make_metrics(), partial=False)
    assert [b.title for b in banners(card, whole)] == ["Predictor: oracle"]


def test_the_summary_names_bundle_machine_and_intervals(made):
    told = dict(rows(made[0].card, make_metrics()))
    assert told["Bundle"] == "tiny 0.1.0"
    assert told["sha256"] == "ab12ab12ab12ab12"
    assert told["Samples"] == "4 identification, 5 defects"
    assert "1,000 draws" in told["Intervals"]
    assert "core" in told["Machine"]


def test_headline_figures_stand_beside_the_published_ones():
    found = {t.label: (t.value, t.spread, t.beside) for t in tiles(make_metrics())}
    assert found["mask mAP50, one class · Mixed object tote"] == (
        "0.430", "0.380 to 0.480", "RoboLLM 0.82",
    )  # fmt: skip
    assert found["mask mAP50, objects alone · Mixed object tote"][::2] == ("0.530", "")
    assert found["recall@1 in the container, N=1, %"][::2] == ("92.0", "RoboLLM 97.8")


def test_table_8_1_has_the_published_figures_and_ours_by_protocol():
    grid = table_8_1(make_metrics(), "tiny", "Conditions: none.")
    assert [c.name for c in grid.columns] == ["ResNet50", "RoboLLM", "tiny", "tiny", "tiny"]
    assert [_cell(grid, "Mixed object tote", "mAP50", i).text for i in range(5)] == [
        "0.72", "0.82", "0.330", "0.430", "0.530",
    ]  # fmt: skip
    assert _cell(grid, "Zoomed-out tote", "mAP75", 1).text == "0.45"
    assert "Not in this run: Same object tote." in grid.caption
    assert grid.caption[-1] == "Conditions: none."


def test_table_8_2_in_percent_with_chance_and_baseline():
    grid = table_8_2(make_metrics(), "tiny", "")
    names = [c.name for c in grid.columns]
    assert names[:4] == ["ResNet50-RMAC", "DINO-ViT-S", "BEiT-3 Base", "RoboLLM"]
    assert names[4:] == ["tiny"] * 3 + ["chance", "colour-histogram"]
    first = [_cell(grid, "Container, N=1", "recall@1", i) for i in range(9)]
    assert [v.text for v in first] == [
        "71.7", "77.2", "83.7", "97.8", "92.0", "92.0", "91.0", "50.0", "77.0",
    ]  # fmt: skip
    assert first[4].spread == "87.0 to 97.0"
    assert _cell(grid, "Container, N=3", "recall@1", 5).text == "92.0"  # the nearest view
    assert _cell(grid, "All references, N=3", "recall@3", 3).text == "89.1"
    assert _cell(grid, "All references, N=1", "recall@1", 0) == Value()


def test_one_view_is_its_own_nearest_so_no_cell_of_it_is_empty():
    grid = table_8_2(make_metrics(), "tiny", "")
    nearest = [c.note for c in grid.columns].index("product, nearest view, as [1]")
    for where in ("Container, N=1", "All references, N=1"):
        fused, near = (_cell(grid, where, "recall@2", i) for i in (nearest - 1, nearest))
        assert near == fused != Value()


def test_a_headline_names_what_is_published_for_its_own_subset():
    metrics = make_metrics()
    zoomed = dataclasses.replace(metrics, sections=metrics.sections[1:])
    beside = {t.label: t.beside for t in tiles(zoomed)}
    assert beside["mask mAP50, one class · Zoomed-out tote"] == "RoboLLM 0.57"
    assert beside["mask mAP50, two classes · Zoomed-out tote"] == "ResNet50 0.25"


def test_a_page_without_published_figures_speaks_of_none(made, tmp_path):
    run, metrics = made[0], make_metrics()
    station = dataclasses.replace(metrics, sections=metrics.sections[-1:])
    page = write_report(run, station, out=tmp_path / "station.html").read_text("utf-8")
    assert "Another dataset: simulated" in page
    for word in ("thesis", "Published figures", "published figures", 'href="#tables"'):
        assert word not in page


def test_table_8_3_per_image_and_per_induct():
    grid = table_8_3(make_metrics(), "tiny", "")
    assert [c.note for c in grid.columns[3:]] == [
        "per image, as published", "per induct: any image",
    ]  # fmt: skip
    assert [_cell(grid, "Combined", "FPR", i).text for i in range(4)] == [
        "0.05", "0.03", "0.03", "0.060",
    ]  # fmt: skip
    assert _cell(grid, "Multi-pick", "Precision", 0).text == "–"


def test_a_protocol_that_a_bundle_cannot_do_has_no_column():
    metrics = make_metrics()
    (section,) = [s for s in metrics.sections if s.subset == MIX]
    left = {n: f for n, f in section.figures.items() if not n.startswith("two_class")}
    only = dataclasses.replace(metrics, sections=(dataclasses.replace(section, figures=left),))
    grid = table_8_1(only, "tiny", "")
    assert [c.note.split(":")[0] for c in grid.columns if c.kind == "ours"] == [
        "class_agnostic", "object_only",
    ]  # fmt: skip


def test_the_published_tables_have_as_many_figures_as_the_thesis():
    counts = [sum(len(m.values) for m in t) for t in (
        published.TABLE_8_1, published.TABLE_8_2, published.TABLE_8_3,
    )]  # fmt: skip
    assert counts == [12, 6 + 6 + 4 + 12, 6 + 9 + 9]


def test_a_figure_without_cases_is_a_dash_and_one_without_limits_has_no_spread():
    nan = math.nan
    assert measured(Interval(nan, nan, nan, 0)) == Value()
    assert measured(Interval(0.5, nan, nan, 1)) == Value("0.500")
    assert measured(Interval(0.0, 0.0, 0.026, 115), 1, 100) == Value("0.0", "0.0 to 2.6")
    assert (plural(1, "image"), plural(1200, "box")) == ("1 image", "1,200 boxes")


def test_every_task_has_its_worst_samples_with_what_went_wrong(made):
    text = made[2]
    for why in (
        "Of 4 objects 1 missed; of 4 finds 1 false",
        "B0WRONG was nearer than B0RIGHT by 0.40 in cosine.",
        "A package_defect was called nominal with 0.70.",
        "A nominal pick was called package_defect.",
    ):
        assert why in text
    outcomes = set(re.findall(r'data-outcome="([^"]+)"', text))
    assert outcomes == {
        "missed and false", "wrong product", "no reference", "missed defect", "false alarm",
        "no answer",
    }  # fmt: skip


def test_outlines_tell_missed_from_found_and_false_from_right(made):
    (card,) = re.findall(rf'<article class="card" data-section="segmentation/{MIX}".*?</article>',
                         made[2], re.S)[:1]  # fmt: skip
    kinds = re.findall(r'<path class="(\w+)"', card)
    assert sorted(kinds) == ["false"] + ["found"] * 3 + ["missed"] + ["truth"] * 3


def test_a_picture_that_is_gone_leaves_its_place_and_is_counted(made):
    assert "The picture could not be read." in made[2]
    assert "gone_0.jpg" in made[2]
    assert "missing_picture" in made[2]


def test_markup_in_names_stays_text(made):
    assert EVIL not in made[2]
    assert "&lt;script&gt;alert(&#39;x&#39;)" in made[2]


def test_markdown_has_the_same_tables_and_no_stray_cell(made):
    text = made[1].with_suffix(".md").read_text("utf-8")
    assert "| Mixed object tote | mAP50 | 0.72 | 0.82 | 0.330 (0.280 to 0.380)" in text
    assert "> **Untrained bundle**" in text
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_data_that_was_moved_away_leaves_a_report_without_pictures(made, tmp_path):
    run = made[0]
    before = run.card["data"]
    run.card["data"] = {**before, "root": str(tmp_path / "gone")}
    try:
        page = write_report(run, make_metrics(), out=tmp_path / "sub" / "page.html")
    finally:
        run.card["data"] = before
    text = page.read_text("utf-8")
    assert "data:image/jpeg" not in text
    assert text.count("The picture could not be read.") > 10
    assert (tmp_path / "sub" / "page.md").is_file()


def test_the_same_run_gives_the_same_file(made, tmp_path):
    again = write_report(made[0], make_metrics(), out=tmp_path / "again.html")
    assert again.read_text("utf-8") == made[2]


@pytest.mark.parametrize("task", ["segmentation", "identification", "defects", "station"])
def test_a_run_of_one_task_is_reported_and_says_which_tables_it_has_not(made, tmp_path, task):
    metrics = make_metrics()
    only = dataclasses.replace(
        metrics, sections=tuple(s for s in metrics.sections if s.task == task), baselines={}
    )
    text = write_report(made[0], only, out=tmp_path / "page.html").read_text("utf-8")
    absent = re.findall(r"(Table 8\.\d): this run has no", text)
    assert len(absent) == (0 if task == "station" else 2)
    _tags(text)


def test_a_folder_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvalError, match="can't be written"):
        write_report(made[0], make_metrics(), out=tmp_path / "file" / "page.html")


def test_the_verb_writes_both_files_and_says_where(made, tmp_path):
    make_metrics().write(made[0].path)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(command, [str(made[0].path), "--out", str(page), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["report"], told["markdown"]) == (str(page), str(page.with_suffix(".md")))
    assert page.read_text("utf-8") == made[2]


def test_a_run_that_was_not_scored_is_told_how(made, tmp_path):
    run = make_run(tmp_path)
    done = CliRunner().invoke(command, [str(run.path)])
    assert isinstance(done.exception, EvalError)
    assert "robollm eval score" in done.exception.fix


def test_metrics_survive_json_with_what_a_report_needs():
    metrics = make_metrics()
    again = Metrics.from_json(json.loads(json.dumps(metrics.to_json())))
    assert again.sections[0].worst == metrics.sections[0].worst
    assert again.sections[2].embeddings == metrics.sections[2].embeddings
