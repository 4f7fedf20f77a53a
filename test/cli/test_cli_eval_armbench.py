"""`robollm eval armbench` and `score` as a user starts them, with worker processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from robollm.cli.eval import armbench, score
from robollm.core.errors import ConfigError, EvalError
from robollm.data import armbench_defects as layout
from robollm.data.jpeg import encode


@pytest.fixture
def data(tmp_path):
    """Six inducts of two pictures."""
    root = tmp_path / "data" / layout.IMAGE_ROOT
    rng = np.random.default_rng(0)
    ids = [f"{i:021}" for i in range(6)]
    for i, one in enumerate(ids):
        shown = [
            (encode(rng.integers(0, 256, (16, 16, 3), np.uint8)),
             {"label": layout.LABELS[i % 3], "box": [0, 0, 0, 0]})
            for _ in range(2)
        ]  # fmt: skip
        layout.write_images(root, one, shown)
    layout.write_lists(root, {"train": [], "val": [], "test": ids})
    return tmp_path / "data"


def told(command, *arguments):
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_one_json_object_comes_out_and_scoring_again_gives_the_same_figures(data, tmp_path):
    out = tmp_path / "run"
    first = told(
        armbench.command, data, "--predictor", "oracle", "--out", out, "--workers", 1,
        "--draws", 100,
    )  # fmt: skip
    assert first["figures"]["defects/image_combined_recall"] == 1.0
    assert (first["complete"], first["partial"]) == (True, False)
    assert first["problems"]["not_in_data"] == 3  # the other tasks
    assert (out / "report.html").is_file()
    written = (out / "metrics.json").read_bytes()
    again = told(score.command, out, "--draws", 100)
    assert again["figures"] == first["figures"]
    assert (out / "metrics.json").read_bytes() == written


@pytest.mark.parametrize("text", ["Item", "Item=thing", "=object"])
def test_a_category_is_told_by_name_and_kind(data, tmp_path, text):
    with pytest.raises(ConfigError, match="want NAME=tote or NAME=object"):
        told(
            armbench.command, data, "--predictor", "oracle", "--out", tmp_path / "run",
            "--category", text,
        )  # fmt: skip


def test_a_folder_that_is_no_run_cannot_be_scored(tmp_path):
    with pytest.raises(EvalError, match="holds no run"):
        told(score.command, tmp_path)
