"""The authors' BEiT-3 from torchscale, with random weights, and files as they publish them."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from robollm.train.beit3.settings import EncoderSettings

_NEEDED = {
    # torchscale imports these; a forward pass without drop path uses none of them
    "fairscale": {},
    "fairscale.nn": {"checkpoint_wrapper": None, "wrap": None},
    "timm": {},
    "timm.models": {},
    "timm.models.layers": {"drop_path": None},
}


def _import() -> tuple[Any, Any]:
    for name, content in _NEEDED.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchscale.architecture.config import EncoderConfig
            from torchscale.model.BEiT3 import BEiT3
    finally:
        for name in _NEEDED:  # nobody else may take the stand-ins for the real ones
            del sys.modules[name]
    return EncoderConfig, BEiT3


def torchscale_beit3(s: EncoderSettings, *, last_norm: bool = True, seed: int = 0) -> Any:
    """The authors' model of these sizes; no weight is 0 or 1, so that none can be forgotten."""
    config, beit3 = _import()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = beit3(
            config(
                img_size=s.grid * s.patch,
                patch_size=s.patch,
                vocab_size=64,
                multiway=True,
                normalize_output=last_norm,
                no_output_layer=True,
                encoder_embed_dim=s.dim,
                encoder_attention_heads=s.heads,
                encoder_ffn_embed_dim=s.hidden,
                encoder_layers=s.depth,
                max_source_positions=32,
            )
        ).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 1 or "token" in name:
                    weight += torch.randn_like(weight) * 0.05
    return model


def published_state(model: nn.Module, *heads: str, prefix: str = "beit3.") -> dict[str, Tensor]:
    """A state dict as in the authors' files, with heads of the real names."""
    dim = model.vision_embed.cls_token.shape[-1]  # type: ignore[union-attr, index]
    state = {prefix + k: v.clone() for k, v in model.state_dict().items()}
    for head in heads:
        state[head] = torch.ones(()) if head == "logit_scale" else torch.ones(4, dim)
    return state
