"""A folder with all that can be wrong: it is named and counted, and training goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from drawn_world import write_world

from robollm.cli.main import app
from robollm.data import armbench_defects as defects
from robollm.data import armbench_identification as identification
from robollm.data import armbench_segmentation as segmentation

SMALL = {
    "segmentation": (
        "model.backbone.encoder={'type': 'Beit3Encoder', 'variant': 'tiny', 'depth': 1}",
        "model.neck.in_channels=128",
        "train_dataloader.batch_sampler.batch_size=2",
        "train_dataloader.dataset.canvas_hw=(96, 128)",
        "val_dataloader.dataset.canvas_hw=(96, 128)",
    ),
    "identification": ("model.encoder.depth=1", "train_dataloader.batch_size=6"),
    "defects": ("model.encoder.depth=1", "train_dataloader.batch_size=6"),
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "world")


def train(task: str, world: Path, out: Path) -> Result:
    changes = ("train_cfg.max_steps=3", "train_cfg.val_steps=3", *SMALL[task])
    words = [w for c in changes for w in ("--set", c)]
    return CliRunner().invoke(app, ["train", task, "--data", str(world), "--out", str(out), *words])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path, edit: Any) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def test_totes_with_bad_pictures_and_annotations_are_named_and_left_out(
    world: Path, tmp_path: Path
) -> None:
    folder = world / segmentation.ROOT / segmentation.MIX
    (folder / "images" / "train0000.jpg").unlink()
    cut(folder / "images" / "train0001.jpg")

    def edit(data: dict[str, Any]) -> None:
        rows = data["annotations"]
        of = {k: [a for a in rows if a["image_id"] == k] for k in (3, 4, 5)}
        of[3][0]["category_id"] = 77
        of[3][1]["segmentation"] = []
        of[4][0]["bbox"] = [5000.0, 5000.0, 10.0, 10.0]
        of[4][0]["segmentation"] = [[5000.0, 5000.0, 5010.0, 5000.0, 5010.0, 5010.0]]
        of[5][0]["image_id"] = 999

    change(folder / "train.json", edit)
    done = train("segmentation", world, tmp_path / "run")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "run" / "problems.txt").read_text()
    for kind in ("missing_image", "truncated_image", "unknown_category", "empty_segmentation",
                 "outside_box", "orphan_annotation"):  # fmt: skip
        assert kind in text, text
    assert "train.json" in text
    assert "train0001.jpg" in text


def test_picks_without_pictures_references_or_truth_are_named_and_left_out(
    world: Path, tmp_path: Path
) -> None:
    root = world / identification.ROOT
    picks = identification.read_split(root)["trainset"]
    cut(root / "Picks" / picks[0] / "PickRGB.jpg")
    (root / "Picks" / picks[1] / "PickRGB.jpg").unlink()
    shutil.rmtree(root / "Picks" / picks[2])
    (root / "Picks" / picks[3] / "container.json").write_text("{not json")
    change(root / "Picks" / picks[4] / "annotation.json", lambda d: d.pop("GT_ID"))
    truth = json.loads((root / "Picks" / picks[6] / "annotation.json").read_text())["GT_ID"]
    shutil.rmtree(root / "Reference_Images" / truth)
    done = train("identification", world, tmp_path / "run")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "run" / "problems.txt").read_text()
    for kind in ("truncated_image", "no_view", "missing_pick", "unreadable_container",
                 "unreadable_pick", "truth_without_reference"):  # fmt: skip
        assert kind in text, text
    assert picks[4] in text


def test_inducts_with_bad_files_labels_and_boxes_are_named_and_left_out(
    world: Path, tmp_path: Path
) -> None:
    root = world / defects.IMAGE_ROOT
    inducts = defects.read_list(root / "train.csv")
    files = {i: sorted((root / "data" / i).glob("*.json")) for i in inducts}
    cut(files[inducts[0]][0].with_suffix(".jpg"))
    files[inducts[1]][0].with_suffix(".jpg").unlink()
    change(files[inducts[2]][0], lambda d: d.update(label="squashed"))
    change(files[inducts[3]][0], lambda d: d.update(box=[900, 900, 950, 950]))
    files[inducts[4]][0].write_text('{"label": "nominal",\n "box": oops}')
    shutil.rmtree(root / "data" / inducts[5])
    done = train("defects", world, tmp_path / "run")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "run" / "problems.txt").read_text()
    for kind in ("truncated_image", "missing_image", "unknown_label", "bad_box", "bad_json",
                 "missing_induct"):  # fmt: skip
        assert kind in text, text
    assert "line 2" in text or ":2" in text
    assert json.loads(done.stdout.strip().splitlines()[-1])["problems"]["unknown_label"] == 1


@pytest.mark.parametrize("task", SMALL)
def test_a_folder_without_the_task_s_data_says_what_it_wants(task: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = train(task, tmp_path / "empty", tmp_path / "run")
    assert done.exit_code != 0
    assert "armbench-" in str(done.exception)
