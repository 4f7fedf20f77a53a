"""Which runs make a bundle together, and what is said of those that don't."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_kit import CANVAS, CROP, VIEWS, Exported, small, write_run, write_three
from mmengine.config import Config

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.build import build_graphs
from robollm.export.collect import collect
from robollm.runtime.bundle import Canvas
from robollm.train.beit3.checkpoint import encoder_state

Change = Callable[[Config], Any]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Read only."""
    return write_three(tmp_path_factory.mktemp("runs"))


def test_a_multitask_run_has_everything(exported: Exported) -> None:
    parts = collect(exported.runs)
    assert parts.tote == Canvas(CANVAS, "letterbox")
    assert parts.crop == Canvas((CROP, CROP), "stretch")
    assert (parts.adapters, parts.views, parts.frames) == ((), (), 1)
    assert parts.instance_labels == ("object",)
    assert parts.trained
    assert parts.runs[0]["task"] == "multitask"


def test_runs_on_one_encoder_come_together_with_their_adapters(three: tuple[Path, ...]) -> None:
    parts = collect(three)
    assert (parts.adapters, parts.views) == (("identification", "defects"), VIEWS)
    assert parts.frames == 2
    for run, task in zip(three[1:], parts.adapters, strict=True):
        saved = torch.load(run / "best.pth", weights_only=True)["state_dict"]
        mark = f".adapters.{task}."
        mine = {f"encoder.{k}": v for k, v in parts.encoder.state_dict().items() if mark in k}
        assert mine
        assert all(torch.equal(v, saved[k]) for k, v in mine.items())


def test_the_order_of_runs_makes_no_difference(three: tuple[Path, ...]) -> None:
    graphs = [build_graphs(collect(runs)) for runs in (three, three[::-1])]
    assert graphs[0].keys() == graphs[1].keys()
    for role, model in graphs[0].items():
        other = graphs[1][role]
        assert {i.name: i.raw_data for i in model.graph.initializer} == {
            i.name: i.raw_data for i in other.graph.initializer
        }, role


def test_encoders_that_differ_are_refused_by_the_first_weight(
    three: tuple[Path, ...], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", "defects", small("defects"))
    with pytest.raises(ConfigError, match=r"(?s)differ, first in 'cls_token', by up to .*frozen"):
        collect((*three[:2], other))


def test_one_changed_weight_is_found(three: tuple[Path, ...], tmp_path: Path) -> None:
    run = tmp_path / "defects"
    shutil.copytree(three[2], run)
    checkpoint = torch.load(run / "best.pth", weights_only=True)
    checkpoint["state_dict"]["encoder.blocks.1.mlp.fc2.bias"][3] += 1e-6
    torch.save(checkpoint, run / "best.pth")
    with pytest.raises(ConfigError, match=r"first in 'blocks\.1\.mlp\.fc2\.bias'"):
        collect((*three[:2], run))


@pytest.mark.parametrize("change", [{"grid": 5}, {"window": 2}, {"depth": 1}])
def test_encoders_of_other_sizes_are_refused(
    change: dict[str, int], three: tuple[Path, ...], tmp_path: Path
) -> None:
    config = small("defects")
    config.model.encoder = {**config.model.encoder, **change}
    other = write_run(tmp_path / "other", "defects", config)
    with pytest.raises(ConfigError, match=f"differ: {next(iter(change))} is"):
        collect((*three[:2], other))


def test_a_task_that_nobody_trained_is_named(three: tuple[Path, ...]) -> None:
    with pytest.raises(ConfigError, match="no run trained identification and defects"):
        collect(three[:1])


def test_a_task_that_two_runs_trained_is_refused(
    exported: Exported, three: tuple[Path, ...]
) -> None:
    with pytest.raises(ConfigError, match="both trained segmentation"):
        collect((three[0], *exported.runs))


def _crop(config: Config) -> None:
    config.val_dataloader.dataset.datasets.defects.size = 48


def _canvas(config: Config) -> None:
    config.val_dataloader.dataset.datasets.segmentation.canvas_hw = (80, 128)


def _mean(config: Config) -> None:
    config.model.heads.segmentation.data_preprocessor.mean = [123.0, 116.0, 103.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_crop, "identification: 32 px, stretch; defects: 48 px, stretch"),
        (_canvas, "128x80 px, want sides that 32 divides"),
        (_mean, "normalises by mean"),
    ],
)
def test_geometry_that_one_backbone_cant_serve_is_refused(
    change: Change, words: str, tmp_path: Path
) -> None:
    config = small("multitask")
    change(config)
    with pytest.raises(ConfigError, match=words):
        collect([write_run(tmp_path / "run", "multitask", config)])


def test_an_untrained_run_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "multitask", small("multitask"), step=0)
    assert not collect([run]).trained


def test_a_folder_that_is_no_run_is_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.py, best\.pth, run\.json"):
        collect([tmp_path])
    run = tmp_path / "run"
    shutil.copytree(exported.runs[0], run)
    whole = (run / "best.pth").read_bytes()
    (run / "best.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="not a readable checkpoint"):
        collect([run])
    torch.save({"state_dict": {"x": torch.zeros(1)}}, run / "best.pth")
    with pytest.raises(ModelFileError, match="doesn't fit"):
        collect([run])


def test_the_encoder_is_in_the_bundle_as_it_was_saved(exported: Exported) -> None:
    saved = torch.load(exported.runs[0] / "best.pth", weights_only=True)["state_dict"]
    own = encoder_state(collect(exported.runs).encoder)
    assert all(torch.equal(v, saved[f"encoder.{k}"]) for k, v in own.items())
