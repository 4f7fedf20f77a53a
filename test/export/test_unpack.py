"""A bundle's weights as a run folder: the same graphs again, training from it, and its errors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported_kit import Exported, small, write_run
from mmengine.config import Config

from robollm.core.errors import ConfigError, ModelFileError, RobollmError
from robollm.export.export import export
from robollm.export.unpack import read_constants, unpack
from robollm.runtime.bundle import load_bundle
from robollm.train import config as cfgs

WriteConfig = Callable[..., str]


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Write a whole config, of the tiny model that `exported` is of unless another is given."""

    def write(tiny: Config | None = None) -> str:
        config = cfgs.load("multitask", "small")
        for key, value in (tiny or small("multitask")).to_dict().items():
            config[key] = value
        path = tmp_path / "tiny_config.py"
        path.write_text(config.pretty_text)
        return str(path)

    return write


def state_of(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "best.pth", weights_only=True)["state_dict"]
    return state


def test_a_run_s_weights_come_back_from_its_bundle(
    exported: Exported, write_config: WriteConfig, tmp_path: Path
) -> None:
    done = unpack(exported.bundle, tmp_path / "back", config=write_config())
    before, after = state_of(exported.runs[0]), state_of(done.run)
    assert set(before) == set(after)
    assert done.fresh == ("heads.identification.criterion.logit_scale",)
    summed = {"encoder.cls_token", "encoder.pos_embed"}
    for name in set(before) - summed - set(done.fresh):
        np.testing.assert_allclose(after[name], before[name], rtol=2e-7, atol=0, err_msg=name)
    token, table = (before[n] for n in sorted(summed))
    torch.testing.assert_close(after["encoder.cls_token"], token + table[:1])
    assert not after["encoder.pos_embed"][0].any()
    torch.testing.assert_close(after["encoder.pos_embed"][1:], table[1:], rtol=0, atol=0)


@pytest.mark.parametrize("weights", ["full", "half"])
def test_a_bundle_unpacked_and_exported_again_has_the_same_constants(
    weights: str, exported: Exported, write_config: WriteConfig, tmp_path: Path
) -> None:
    export(exported.order(tmp_path / "one", weights=weights))
    done = unpack(tmp_path / "one", tmp_path / "back", config=write_config())
    export(exported.order(tmp_path / "two", runs=(done.run,), weights=weights))
    one, two = (read_constants(load_bundle(tmp_path / n).graphs) for n in ("one", "two"))
    assert set(one) == set(two)
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, rtol=2e-7, atol=0, err_msg=str(key))
    provenance = load_bundle(tmp_path / "two").provenance["runs"][0]
    assert provenance["unpacked_from"]["sha256"] == load_bundle(tmp_path / "one").sha256
    assert provenance["step"] == 3


def test_adapters_and_joined_views_come_back_too(
    drawn: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    config = small("multitask")
    config.model.adapters = {"extractor": 8, "enhancer": 8, "alpha": 0.3}
    config.model.heads.identification.update(views=3, hidden=48, pool="cls")
    config.val_dataloader.dataset.datasets.identification.views = (
        "PickRGB", "ToteWallRGB", "OnArmLowRGB",
    )  # fmt: skip
    run = write_run(tmp_path / "run", "multitask", config)
    made = Exported(tmp_path / "bundle", (run,), drawn, {})
    export(made.order(made.bundle))
    done = unpack(made.bundle, tmp_path / "back", config=write_config(config))
    before, after = state_of(run), state_of(done.run)
    for name in set(before) - {"encoder.cls_token", "encoder.pos_embed", *done.fresh}:
        np.testing.assert_allclose(after[name], before[name], rtol=3e-7, atol=0, err_msg=name)


def test_training_goes_on_from_an_unpacked_bundle(
    exported: Exported, write_config: WriteConfig, tmp_path: Path, robollm: Any
) -> None:
    path = write_config()
    back = tmp_path / "back"
    done = robollm("bundle", "unpack", exported.bundle, "--config", path, "--out", back, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["restored"] > 50
    run = robollm(
        "train", "multitask", "--config", path, "--data", exported.data, "--out", tmp_path / "on",
        "--set", f"load_from={back / 'best.pth'}", "--set", "train_cfg.max_steps=1",
        "--set", "train_cfg.val_steps=1", "--set", "optim_wrapper.optimizer.lr=0.0",
    )  # fmt: skip
    assert run.code == 0, run.err
    before, after = state_of(back), state_of(tmp_path / "on")
    name = "heads.segmentation.detector.rpn_head.rpn_cls.weight"
    torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_a_bundle_of_another_config_is_refused(
    exported: Exported, write_config: WriteConfig, tmp_path: Path
) -> None:
    deeper, narrower, wider = small("multitask"), small("multitask"), small("multitask")
    deeper.model.encoder = {**deeper.model.encoder, "depth": 3}
    narrower.model.encoder = {**narrower.model.encoder, "hidden": 48}
    wider.val_dataloader.dataset.datasets.segmentation.canvas_hw = (96, 160)
    for config, error, seen in (
        (deeper, ModelFileError, r"has no constant 'blocks\.2\."),
        (narrower, ModelFileError, r"is \[32, 64\], of .* it would be \[32, 48\]"),
        (wider, ConfigError, r"as 160x96 px.*bundle 'bundle' as 128x96 px"),
    ):
        with pytest.raises(error, match=seen) as caught:
            unpack(exported.bundle, tmp_path / "back", config=write_config(config))
        assert isinstance(caught.value, RobollmError)
        assert caught.value.fix
        assert not (tmp_path / "back").exists()


def test_a_folder_with_files_is_left_alone(
    exported: Exported, write_config: WriteConfig, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ConfigError, match="not empty"):
        unpack(exported.bundle, tmp_path / "mine", config=write_config())
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_graphs_that_say_something_else_than_their_weights_are_refused(
    exported: Exported, write_config: WriteConfig, tmp_path: Path
) -> None:
    """As if another version had exported it: a constant of the graph's own is another one."""
    from robollm.export.writer import write_bundle

    bundle = shutil.copytree(exported.bundle, tmp_path / "odd")
    card = json.loads((bundle / "bundle.json").read_text())
    models: dict[str, Any] = {name: (bundle / name).read_bytes() for name in card["files"]}
    graph = onnx.load_from_string(models["proposals.onnx"])
    anchors = next(t for t in graph.graph.initializer if t.name == "anchors.0")
    moved = onnx.numpy_helper.to_array(anchors) + np.float32(1)
    anchors.CopyFrom(onnx.numpy_helper.from_array(moved, anchors.name))
    models["proposals.onnx"] = graph
    write_bundle(bundle, models, card)
    with pytest.raises(ModelFileError, match=re.escape("anchors.0 in graph proposals")):
        unpack(bundle, tmp_path / "back", config=write_config())
