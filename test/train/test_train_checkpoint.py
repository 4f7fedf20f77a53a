"""Published checkpoints, as the authors write them, and broken ones."""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchscale_models import published_state, torchscale_beit3

from robollm.core.errors import ModelFileError
from robollm.train.adapters.multiway import attach
from robollm.train.beit3.checkpoint import encoder_state, load_into, read_checkpoint
from robollm.train.beit3.encoder import Beit3Encoder
from robollm.train.beit3.names import needed, published_name, vision_name
from robollm.train.beit3.positions import resize_positions
from robollm.train.beit3.settings import settings_of

SIZE = {"depth": 2, "grid": 4}
IMAGE = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)

Save = Callable[..., Path]


@pytest.fixture(scope="module")
def theirs() -> Any:
    return torchscale_beit3(settings_of("tiny", **SIZE))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: object, name: str = "file.pth") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def ours(**changes: int) -> Beit3Encoder:
    return Beit3Encoder("tiny", **(SIZE | changes)).eval()


def check(encoder: Beit3Encoder, theirs: Any) -> None:
    with torch.no_grad():
        want = theirs(visual_tokens=IMAGE)["encoder_out"]
        assert (encoder.tokens(IMAGE) - want).abs().max() < 1e-5


PRETRAINED = ("mlm_head.weight", "mlm_head.bias")
RETRIEVAL = ("language_head.weight", "vision_head.weight", "logit_scale")


@pytest.mark.parametrize(
    ("heads", "prefix", "wrap"),
    [
        (PRETRAINED, "beit3.", "model"),
        (PRETRAINED, "", None),
        (RETRIEVAL, "beit3.", "model"),
        (RETRIEVAL, "beit3.", "module"),
        (RETRIEVAL, "beit3.", None),
        ((), "", "model"),
    ],
)
def test_files_of_every_kind_give_the_authors_outputs(
    theirs: Any, save: Save, heads: tuple[str, ...], prefix: str, wrap: str | None
) -> None:
    state = published_state(theirs, *heads, prefix=prefix)
    encoder = ours()
    report = load_into(encoder, save({wrap: state} if wrap else state))
    check(encoder, theirs)
    dropped = {k: set(v) for k, v in report.dropped.items()}
    assert dropped.pop("heads", set()) == set(heads)
    assert dropped.pop("mask token of the pre-training") == {f"{prefix}vision_embed.mask_token"}
    language = dropped.pop("language branch (B)")
    assert f"{prefix}text_embed.weight" in language
    assert not dropped
    assert report.loaded + 1 + len(language) + len(heads) == len(state)


def test_the_report_prints_what_was_dropped(theirs: Any, save: Save) -> None:
    path = save({"model": published_state(theirs, *RETRIEVAL)})
    lines = str(load_into(ours(), path)).splitlines()
    assert lines[0] == f"{path}: {len(ours().state_dict())} encoder weights loaded"
    assert "  dropped, heads: 3 (language_head.weight, vision_head.weight, logit_scale)" in lines
    assert any(line.endswith(", ...)") and "language branch (B): " in line for line in lines)


@pytest.mark.parametrize(
    "heads",
    [
        ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"),
        ("pooler.dense.weight", "head.0.weight"),
    ],
)
def test_a_classifier_has_no_last_norm_and_that_is_said(save: Save, heads: tuple[str, ...]) -> None:
    theirs = torchscale_beit3(settings_of("tiny", **SIZE), last_norm=False)
    encoder = ours()
    report = load_into(encoder, save({"model": published_state(theirs, *heads)}))
    assert report.dropped["heads"] == heads
    assert "no last LayerNorm" in str(report)
    with torch.no_grad():
        raw = theirs(visual_tokens=IMAGE)["encoder_out"]
        want = torch.nn.functional.layer_norm(raw, raw.shape[-1:])
        assert (encoder.tokens(IMAGE) - want).abs().max() < 1e-5


def test_half_precision_becomes_float32_and_that_is_said(theirs: Any, save: Save) -> None:
    state = {k: v.half() for k, v in published_state(theirs).items()}
    read = read_checkpoint(save({"model": state}))
    assert {v.dtype for v in read.weights.values()} == {torch.float32}
    assert read.notes == ("float16 weights became float32",)
    assert torch.equal(
        read.weights["cls_token"], state["beit3.vision_embed.cls_token"].to(torch.float32)
    )


def test_positions_of_another_grid_are_resized_and_that_is_said(theirs: Any, save: Save) -> None:
    encoder = ours(grid=6)
    report = load_into(encoder, save(published_state(theirs)))
    assert report.notes == ("positions resized from 4x4 to 6x6",)
    table = theirs.state_dict()["encoder.embed_positions.A.weight"][2:]
    torch.testing.assert_close(encoder.pos_embed.data, resize_positions(table, 6, 6))


def test_what_the_authors_scripts_save_beside_weights_does_no_harm(theirs: Any, save: Save) -> None:
    path = save(
        {
            "model": published_state(theirs),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
            "epoch": 3,
            "args": argparse.Namespace(lr=0.1, task="coco_retrieval"),
        }
    )
    encoder = ours()
    load_into(encoder, path)
    check(encoder, theirs)


@pytest.mark.parametrize("prefix", ["", "encoder.", "backbone.encoder."])
def test_checkpoints_of_our_own_runs_load_too(save: Save, prefix: str) -> None:
    trained, encoder = ours(), ours()
    attach(trained, ["defects"])
    state = {prefix + k: v for k, v in trained.state_dict().items()}
    if prefix:
        state["heads.defects.fc.weight"] = torch.zeros(3)
    report = load_into(encoder, save({"state_dict": state, "meta": {"step": 5}}))
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in encoder_state(trained).items())
    assert len(report.dropped["adapters"]) == 2 * 8
    assert ("not of the encoder" in report.dropped) == bool(prefix)


def test_adapters_stay_when_a_backbone_is_loaded(theirs: Any, save: Save) -> None:
    encoder = ours()
    attach(encoder, ["defects"])
    before = {k: v.clone() for k, v in encoder.state_dict().items() if ".adapters." in k}
    load_into(encoder, save(published_state(theirs)))
    check(encoder, theirs)
    assert all(torch.equal(encoder.state_dict()[k], v) for k, v in before.items())


def test_init_weights_reads_the_checkpoint_of_the_configuration(theirs: Any, save: Save) -> None:
    path = save(published_state(theirs))
    encoder = Beit3Encoder("tiny", init_checkpoint=str(path), **SIZE).eval()
    path_gone = Beit3Encoder("tiny", init_checkpoint="gone.pth", **SIZE)  # read later, or never
    encoder.init_weights()
    check(encoder, theirs)
    with pytest.raises(ModelFileError, match=r"no checkpoint gone\.pth"):
        path_gone.init_weights()


def test_every_weight_has_a_published_name_and_back() -> None:
    names = needed(3)
    assert names == set(Beit3Encoder("tiny", depth=3).state_dict())
    assert {vision_name(published_name(name)) for name in names} == names


def without(state: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not any(p in k for p in parts)}


def test_a_checkpoint_of_another_size_says_both_sizes(theirs: Any, save: Save) -> None:
    encoder = Beit3Encoder("tiny", depth=3, dim=64, heads=2, hidden=512)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(ModelFileError) as e:
        load_into(encoder, save(published_state(theirs)))
    assert "dim 128, depth 2, hidden 512, patch 16" in e.value.what
    assert "dim 64, depth 3, hidden 512, patch 16" in e.value.what
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in before.items())


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("vision_embed.proj.bias", "vision_embed.proj.bias"),
        ("layers.1.ffn.A.fc1", "encoder.layers.1.ffn.A.fc1.bias"),
        ("layers.0.", "encoder.layers.0.ffn.A.fc1.bias"),
        ("encoder.layer_norm.A", "encoder.layer_norm.A.bias"),
        ("embed_positions.A", "encoder.embed_positions.A.weight"),
    ],
)
def test_what_is_missing_is_named_as_in_the_file(
    theirs: Any, save: Save, missing: str, named: str
) -> None:
    with pytest.raises(ModelFileError, match="missing") as e:
        read_checkpoint(save(without(published_state(theirs), missing)))
    assert repr(named) in e.value.what


def test_what_is_missing_or_unknown_in_our_own_files_is_named_in_our_words(save: Save) -> None:
    state = {f"encoder.{k}": v for k, v in ours().state_dict().items()}
    with pytest.raises(ModelFileError, match=r"1 weights are missing, such as 'norm\.bias'"):
        read_checkpoint(save({"state_dict": without(state, "encoder.norm.bias")}))
    with pytest.raises(ModelFileError, match=r"weight 'blocks\.0\.gamma' that"):
        read_checkpoint(save({"state_dict": state | {"encoder.blocks.0.gamma": torch.ones(2)}}))


@pytest.mark.parametrize(
    "content",
    [
        {"layer1.0.conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)},
        {"cls_token": torch.zeros(1, 1, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 16, 16)},
        {},
        {"model": {"step": 3}},
        torch.zeros(3),
        [1, 2],
    ],
)
def test_other_models_are_refused(save: Save, content: object) -> None:
    with pytest.raises(ModelFileError, match=r"not a whole BEiT-3|want weights by name") as e:
        read_checkpoint(save(content))
    assert "BEiT-3" in str(e.value)


def test_an_unknown_weight_of_the_vision_branch_is_not_dropped_silently(
    theirs: Any, save: Save
) -> None:
    state = published_state(theirs)
    state["beit3.encoder.layers.0.gamma_1.A.weight"] = torch.zeros(3)
    with pytest.raises(ModelFileError, match=r"gamma_1.*doesn't know"):
        read_checkpoint(save(state))


def test_numbers_that_are_none_are_refused(theirs: Any, save: Save) -> None:
    state = published_state(theirs)
    state["beit3.encoder.layers.1.ffn.A.fc2.bias"][5] = float("nan")
    with pytest.raises(ModelFileError, match=r"not finite, first 'blocks\.1\.mlp\.fc2\.bias'"):
        read_checkpoint(save(state))


def test_positions_that_are_no_square_are_refused(theirs: Any, save: Save) -> None:
    state = published_state(theirs)
    key = "beit3.encoder.embed_positions.A.weight"
    state[key] = state[key][:-1]
    with pytest.raises(ModelFileError, match=r"positions \(16, 128\)"):
        read_checkpoint(save(state))


def test_an_odd_shape_is_refused_before_anything_is_loaded(theirs: Any, save: Save) -> None:
    state = published_state(theirs)
    state["beit3.encoder.layers.1.final_layer_norm.A.bias"] = torch.zeros(7)
    encoder = ours()
    before = encoder.cls_token.detach().clone()
    with pytest.raises(ModelFileError, match=r"'blocks\.1\.norm2\.bias'.*\(7,\).*\(128,\)"):
        load_into(encoder, save(state))
    assert torch.equal(encoder.cls_token, before)


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_can_not_run_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, "bad.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(ModelFileError, match="holds more than tensors"):
        read_checkpoint("bad.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ModelFileError):
        read_checkpoint("plain.pth")
    assert not Path("pwned").exists()


def test_an_empty_position_table_is_refused(theirs: Any, save: Save) -> None:
    state = published_state(theirs)
    state["beit3.encoder.embed_positions.A.weight"] = torch.zeros(2, 128)
    with pytest.raises(ModelFileError, match=r"positions \(0, 128\)"):
        read_checkpoint(save(state))


@pytest.mark.parametrize("kept", [0, 3, 1000, 0.5, 0.999])
def test_a_truncated_file_is_named(theirs: Any, save: Save, kept: float) -> None:
    path = save(published_state(theirs))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ModelFileError) as e:
        read_checkpoint(path)
    assert str(path) in e.value.what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no checkpoint .*gone\.pth"):
        read_checkpoint(tmp_path / "gone.pth")
