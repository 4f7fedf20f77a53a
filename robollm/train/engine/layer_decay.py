"""Layer-wise learning-rate decay for every model that holds a BEiT-3 encoder."""

from __future__ import annotations

import re
from typing import Any

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn

from robollm.core.errors import ConfigError
from robollm.train.beit3.encoder import Beit3Encoder

_BARE = ("pos_embed", "cls_token", "logit_scale")


def layer_of(name: str, depth: int) -> int:
    """The layer of an encoder's parameter: 0 is the embedding, block i is i + 1.

    Args:
        name: within the encoder.
        depth: blocks.

    Returns:
        0 to depth + 1; depth + 1 has the full rate, as a head has.
    """
    if name.startswith(("patch_embed.", "pos_embed", "cls_token")):
        return 0
    if ".adapters." in name:
        return depth + 1  # new and zero-initialised, wherever it sits: it has all to learn
    block = re.match(r"blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else depth + 1


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay belongs to a parameter: matrices, but no tables and scales.

    BEiT's rule. ViTDet's exempts norms and positions, and decays biases.
    """
    return parameter.ndim > 1 and name.rpartition(".")[2] not in _BARE


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecay:
    """Builds an optimiser whose rates shrink towards the encoder's input.

    A parameter of layer l of an encoder of N blocks has the rate lr * decay^(N + 1 - l); adapters
    and what lies outside an encoder have lr. Frozen parameters are left out. Parameters with equal
    rate and weight decay form one group.

    Args:
        optim_wrapper_cfg: MMEngine's; `optimizer` within needs `lr`.
        paramwise_cfg: `layer_decay`: the factor per layer, 0 < f <= 1; 1 (default) is none.

    Raises:
        ConfigError: for an unknown key or a factor out of range.

    Source: BEiT, arXiv:2106.08254, appendix; ViTDet's rates (arXiv:2203.16527, A.3) are the same.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        given = dict(paramwise_cfg or {})
        self.factor = float(given.pop("layer_decay", 1.0))
        if given or not 0 < self.factor <= 1:
            raise ConfigError(
                f"paramwise_cfg is {paramwise_cfg}, want layer_decay in (0, 1] alone",
                fix="paramwise_cfg=dict(layer_decay=0.75)",
            )
        if "lr" not in optim_wrapper_cfg.get("optimizer", {}):
            raise ConfigError(
                f"optim_wrapper has {sorted(optim_wrapper_cfg)}, want an optimizer with lr",
                fix="optimizer=dict(type='AdamW', lr=1e-4)",
            )
        self.wrapper = dict(optim_wrapper_cfg)

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups, by rising rate: `params`, `lr`, `weight_decay`, `lr_scale`.

        Raises:
            ConfigError: if nothing in the model can be trained.
        """
        rate = float(self.wrapper["optimizer"]["lr"])
        decay = float(self.wrapper["optimizer"].get("weight_decay", 0.0))
        encoders = {
            f"{prefix}." if prefix else "": len(part.blocks)
            for prefix, part in model.named_modules()
            if isinstance(part, Beit3Encoder)
        }
        found: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = 1.0
            for prefix, depth in encoders.items():
                if name.startswith(prefix):
                    scale = self.factor ** (depth + 1 - layer_of(name[len(prefix) :], depth))
            key = (scale, decay if decays(name, parameter) else 0.0)
            found.setdefault(key, []).append(parameter)
        if not found:
            raise ConfigError("no parameter can be trained", fix="unfreeze something")
        return [
            {"params": params, "lr": rate * scale, "weight_decay": wd, "lr_scale": scale}
            for (scale, wd), params in sorted(found.items(), key=lambda item: item[0])
        ]

    def __call__(self, model: nn.Module) -> Any:
        """Build the optimiser wrapper for a model (also one that DDP wraps)."""
        model = getattr(model, "module", model)
        wrapper = {"type": "OptimWrapper", **self.wrapper}
        optimizer = OPTIMIZERS.build({**wrapper.pop("optimizer"), "params": self.groups(model)})
        return OPTIM_WRAPPERS.build({**wrapper, "optimizer": optimizer})
