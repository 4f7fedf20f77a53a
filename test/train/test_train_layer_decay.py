"""Layer-wise learning rates: every parameter's own rate and weight decay."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from robollm.core.errors import ConfigError
from robollm.train.adapters.multiway import attach, freeze
from robollm.train.engine.layer_decay import LayerDecay, layer_of


def test_layers_are_counted_from_the_input():
    names = ["pos_embed", "cls_token", "patch_embed.weight", "blocks.0.norm1.bias"]
    assert [layer_of(n, 4) for n in [*names, "blocks.3.mlp.fc1.weight", "norm.weight"]] == [
        0, 0, 0, 1, 4, 5,
    ]  # fmt: skip


def test_adapters_have_the_full_rate_in_every_block():
    encoder = MODELS.build({"type": "Beit3Encoder", "variant": "tiny"})
    attach(encoder, ("identification",))
    freeze(encoder)
    cfg = {"optimizer": {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.1}}
    groups = LayerDecay(cfg, {"layer_decay": 0.65}).groups(encoder)
    assert {g["lr"] for g in groups} == {2e-4}
    assert sum(len(g["params"]) for g in groups) == 8 * len(encoder.blocks)


class Wrapped(nn.Module):
    """An encoder somewhere, and a head with a scale."""

    def __init__(self, place: str) -> None:
        super().__init__()
        encoder = MODELS.build({"type": "Beit3Encoder", "variant": "tiny"})
        if place == "encoder":
            self.encoder = encoder
        else:
            self.detector = nn.ModuleDict({"backbone": nn.ModuleDict({"encoder": encoder})})
        self.head = nn.Linear(4, 3)
        self.logit_scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("place", ["encoder", "detector.backbone.encoder"])
def test_every_parameter_has_its_own_rate_and_weight_decay(place):
    model = Wrapped(place)
    model.get_submodule(place).blocks[1].norm1.requires_grad_(False)
    cfg = {"optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.1}}
    maker = OPTIM_WRAPPER_CONSTRUCTORS.get("LayerDecay")(cfg, {"layer_decay": 0.5})
    groups = maker(model).optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    got = {
        names[id(p)]: (g["lr"], g["weight_decay"], g["lr_scale"])
        for g in groups
        for p in g["params"]
    }
    want = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        inner = name.removeprefix(f"{place}.")
        layer = 5
        if inner.startswith("blocks."):
            layer = int(inner.split(".")[1]) + 1
        elif inner.split(".")[0] in ("pos_embed", "cls_token", "patch_embed"):
            layer = 0
        bare = p.ndim < 2 or inner in ("pos_embed", "cls_token")
        want[name] = (0.5 ** (5 - layer), 0.0 if bare else 0.1, 0.5 ** (5 - layer))
    assert got == want
    assert len(groups) <= 12
    assert sum(len(g["params"]) for g in groups) == len(want)


def test_the_wrapper_that_the_config_names_is_built():
    cfg = {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.1},
        "clip_grad": {"max_norm": 2.0},
    }
    wrapper = LayerDecay(cfg)(nn.Linear(2, 2))
    assert isinstance(wrapper.optimizer, torch.optim.SGD)
    assert wrapper.clip_grad_kwargs == {"max_norm": 2.0}
    assert cfg["optimizer"] == {"type": "SGD", "lr": 0.1}


@pytest.mark.parametrize(
    ("cfg", "paramwise", "word"),
    [
        ({"optimizer": {"lr": 1.0}}, {"layer_decay": 1.5}, "layer_decay"),
        ({"optimizer": {"lr": 1.0}}, {"decay": 0.5}, "layer_decay"),
        ({"optimizer": {}}, None, "lr"),
    ],
)
def test_wrong_learning_rate_settings_are_named(cfg, paramwise, word):
    with pytest.raises(ConfigError, match=word):
        LayerDecay(cfg, paramwise)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(ConfigError, match="no parameter"):
        LayerDecay({"optimizer": {"type": "SGD", "lr": 1.0}})(nn.Linear(2, 2).requires_grad_(False))
