"""A station that reads the truth is perfect in every figure of picks."""

import json
import math

import pytest

# What should be 0 of a perfect station, by the ends of the figures' names.
ERRORS = ("_fpr", "false_accept", "false_flag_share", "uninspected_share", "_share_defects")
LOSSES = ("ece_", "brier_", "nll_", "frames_to_flag", "seconds_to_flag", "early_flags")


@pytest.fixture(scope="module")
def figures(demo, tmp_path_factory):
    from click.testing import CliRunner

    from robollm.cli.main import app

    out = tmp_path_factory.mktemp("oracle") / "run"
    words = ["eval", "bag", str(demo.bag), "--predictor", "oracle", "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--draws", "100", "--workers", "1"])
    assert done.exit_code == 0, done.output
    (section,) = json.loads((out / "metrics.json").read_text())["sections"]
    return {name: one["value"] for name, one in section["figures"].items()}


def test_every_figure_of_a_station_that_knows_the_truth_is_perfect(figures):
    for name, value in figures.items():
        if value is None:  # nothing of the kind in these few picks
            continue
        bad = name.endswith(ERRORS) or name.startswith(LOSSES)
        assert math.isclose(value, 0.0 if bad else 1.0, abs_tol=0.0), name


def test_the_demo_has_what_these_figures_are_of(figures):
    some = (
        "recall@1_published", "strangers_named", "verdict_multi_pick_recall",
        "verdict_package_defect_fpr", "image_combined_auc", "uninspected_share", "ece_product",
    )  # fmt: skip
    assert {name: figures[name] is not None for name in some} == dict.fromkeys(some, True)


def test_nodes_have_no_oracle(demo, tmp_path, robollm):
    said = robollm("eval", "bag", demo.bag, "--ros", "--predictor", "oracle", "--out", tmp_path)
    assert said.code == 2
    assert "--ros and --predictor oracle don't go together" in said.err
