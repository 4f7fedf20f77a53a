"""The BEiT-3 vision encoder in PyTorch, for every image size.

Names in `state_dict()` are those of `robollm/export/beit3_graph.py`, so that the weights of a
trained encoder are the weights of its ONNX graph.

This is branch A (vision) of BEiT-3's experts; all of its weights are A's alone. Branch B
(language) has weights of the same kinds, and can come as modules of its own beside these, with
the published names that `names.vision_name` leaves out: nothing here would move. What the
branches share, the mixing of tokens, has no weights (`attention.Attention`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robollm.core.errors import ConfigError
from robollm.train.beit3.attention import EPS
from robollm.train.beit3.blocks import Block, PatchEmbed
from robollm.train.beit3.checkpoint import load_into
from robollm.train.beit3.positions import resize_positions
from robollm.train.beit3.settings import settings_of
from robollm.train.features import Features


@MODELS.register_module()
class Beit3Encoder(nn.Module):
    """BEiT-3's vision encoder (arXiv:2208.10442): pre-LN, subln, exact GELU, CLS in front.

    Args:
        variant: a key of `settings.VARIANTS`.
        init_checkpoint: a published BEiT-3 file or one of our own runs. `init_weights` reads
            it; MMEngine's Runner calls that before it trains, and not for a test, so that a
            trained model doesn't need the file any more.
        **changes: fields of `settings.EncoderSettings` that differ from the variant's.

    Attributes:
        settings: sizes.
        task: whose adapters are on, if any; set it by `robollm.train.adapters.switch`.

    Raises:
        ConfigError: no such variant or setting, or a value is out of range.
    """

    def __init__(self, variant: str = "base", *, init_checkpoint: str = "", **changes: Any) -> None:
        super().__init__()
        s = self.settings = settings_of(variant, **changes)
        self.init_checkpoint = init_checkpoint
        self.task: str | None = None
        self.patch_embed = PatchEmbed(s.dim, s.patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, s.dim))
        self.pos_embed = nn.Parameter(torch.empty(1 + s.grid**2, s.dim))
        self.blocks = nn.ModuleList(Block(s, i) for i in range(s.depth))
        self.norm = nn.LayerNorm(s.dim, eps=EPS)
        self._draw_weights()

    def _draw_weights(self) -> None:
        """Draw new weights, from torch's global generator.

        Xavier; the matrices that subln's paper names (v, proj, fc1, fc2) are scaled by
        sqrt(ln 2N) for N blocks (arXiv:2210.06423, table 1), biases are 0.
        """
        gain = math.sqrt(math.log(2 * self.settings.depth))
        for name, weight in self.named_parameters():
            part, kind = name.split(".")[-2:] if "." in name else (name, "")
            if kind == "bias":
                nn.init.zeros_(weight)
            elif kind == "weight" and "norm" not in part:
                scaled = part in ("v", "proj", "fc1", "fc2")
                # flat, because a patch's kernel is a matrix, too
                nn.init.xavier_uniform_(weight.detach().flatten(1), gain=gain if scaled else 1.0)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def init_weights(self) -> None:
        """Read `init_checkpoint`, if there is one, and log what was taken and dropped.

        Raises:
            ModelFileError: the file is missing, damaged, of another size or no BEiT-3.
        """
        if self.init_checkpoint:
            print_log(str(load_into(self, self.init_checkpoint)), logger="current")

    def tokens(self, image: Tensor) -> Tensor:
        """Encode images.

        Args:
            image: (B, 3, H, W) float, RGB, normalised; sides are multiples of the patch.

        Returns:
            (B, 1 + h*w, C) after the last LayerNorm: CLS, then the patches row-major.

        Raises:
            ConfigError: the image has another number of channels or such sides.
        """
        h, w = self._grid(image)
        positions = resize_positions(self.pos_embed, h, w)
        x = self.patch_embed(image) + positions[1:]
        cls = (self.cls_token + positions[:1]).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            if self.settings.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, (h, w), self.task, use_reentrant=False)
            else:
                x = block(x, (h, w), self.task)
        out: Tensor = self.norm(x)
        return out

    def forward(self, image: Tensor) -> Features:
        """Encode images; see `tokens`. The map is contiguous."""
        h, w = self._grid(image)
        x = self.tokens(image)
        patches = x[:, 1:].transpose(1, 2).contiguous()
        return Features(torch.unflatten(patches, 2, (h, w)), x[:, 0])

    def _grid(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        patch = self.settings.patch
        *_, height, width = image.shape
        if image.ndim != 4 or image.shape[1] != 3 or height % patch or width % patch:
            raise ConfigError(
                f"the encoder got an image tensor {tuple(image.shape)}, want (B, 3, H, W) with "
                f"H and W multiples of {patch}",
                fix=f"resize or pad to multiples of {patch} px in the data pipeline",
            )
        return height // patch, width // patch
