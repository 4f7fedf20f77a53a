"""A split without samples: it is said that it is empty, and which are not."""

from __future__ import annotations

import pytest
from in_process import answered
from tiny_armbench import write_all, write_defects, write_picks

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects as layout
from robollm.data.armbench_identification import ROOT as PICKS
from robollm.data.armbench_identification import write_split
from robollm.data.armbench_segmentation import ROOT as TOTES
from robollm.data.problems import Problems
from robollm.eval.tasks import defects, identification, videos


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("empty") / "armbench")


def test_an_empty_list_is_named_with_the_splits_that_have_samples(whole):
    for task, root in ((defects, layout.IMAGE_ROOT), (videos, layout.VIDEO_ROOT)):
        with pytest.raises(ConfigError) as e:
            task.jobs(whole, whole / root, "val", Problems())
        assert e.value.what == (
            f"{whole / root / 'val.csv'} lists nothing for split 'val'; splits with samples: test"
        )
        assert "--split test" in e.value.fix


def test_inducts_of_validation_are_no_samples_of_training(tmp_path):
    write_defects(tmp_path, inducts=3)
    ids = layout.read_list(tmp_path / layout.IMAGE_ROOT / "test.csv")
    layout.write_lists(tmp_path / layout.IMAGE_ROOT, {"train": [], "val": ids, "test": []})
    with pytest.raises(ConfigError, match=r"test\.csv lists nothing .*samples: val\n"):
        defects.jobs(tmp_path, tmp_path / layout.IMAGE_ROOT, "test", Problems())
    with pytest.raises(ConfigError, match=r"train\.csv lists nothing"):
        defects.jobs(tmp_path, tmp_path / layout.IMAGE_ROOT, "train", Problems())
    (tmp_path / layout.IMAGE_ROOT / "val.csv").write_text("")
    with pytest.raises(ConfigError, match=r"test\.csv lists nothing .*samples: train\n"):
        defects.jobs(tmp_path, tmp_path / layout.IMAGE_ROOT, "test", Problems())
    (tmp_path / layout.IMAGE_ROOT / "train.csv").write_text("")
    with pytest.raises(ConfigError, match="splits with samples: none"):
        defects.jobs(tmp_path, tmp_path / layout.IMAGE_ROOT, "test", Problems())


def test_picks_of_an_empty_split_are_told_apart_from_bad_ones(tmp_path):
    write_picks(tmp_path, products=3, count=3)
    root = tmp_path / PICKS
    with pytest.raises(ConfigError, match=r"trainset lists nothing .* splits with samples: test"):
        identification.jobs(tmp_path, root, "train", Problems())
    for file in root.glob("Picks/*/annotation.json"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"3 problems, first: .*no annotation"):
        identification.jobs(tmp_path, root, "test", Problems())
    write_split(root, {key: [] for key in ("train", "val", "test")}, {
        "train": ["A"], "val": ["B"], "test": []})  # fmt: skip
    with pytest.raises(ConfigError, match=r"testset lists nothing .* splits with samples: none"):
        identification.jobs(tmp_path, root, "test", Problems())


def test_a_coco_file_without_images_is_said_to_have_none(whole, tmp_path, monkeypatch):
    for file in (whole / TOTES).glob("*/test.json"):
        empty = '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "Tote"}]}'
        (file.parent / "val.json").write_text(empty)
    with pytest.raises(ConfigError, match=r"val\.json lists no image; other splits: test"):
        answered(monkeypatch, whole, tmp_path / "run", split="val", tasks=("segmentation",))


def test_an_error_of_a_task_names_no_problem_of_another(whole, tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=2, count=2)
    write_defects(tmp_path / "data", inducts=2)
    for file in (tmp_path / "data" / layout.IMAGE_ROOT / "data").rglob("*.jpg"):
        file.unlink()
    with pytest.raises(ConfigError) as e:
        answered(monkeypatch, tmp_path / "data", tmp_path / "run", tasks=("defects",))
    assert "6 problems, first: induct" in e.value.what
    with pytest.raises(ConfigError) as e:
        answered(monkeypatch, whole, tmp_path / "none", split="val")
    assert "not_in_data" not in e.value.what
    assert "there is no" not in e.value.what
