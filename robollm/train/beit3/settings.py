"""Sizes of the encoder, and the named variants."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from robollm.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What an encoder is made of. BEiT-3: arXiv:2208.10442, table 2; windows: arXiv:2203.16527.

    Attributes:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads; `dim` is a multiple of it.
        hidden: channels inside the feed-forward part.
        patch: side of a patch, px.
        grid: side of the learned position table, patches. Other image sizes resize the table.
        window: side of the attention windows, patches; 0 is attention over the whole image.
        global_blocks: blocks that see the whole image although `window` is set, from 0.
        drop_path: rate of stochastic depth in the last block; the first has 0, linear between.
        checkpointing: in training, compute each block a second time in the backward pass
            instead of keeping what is inside it: less memory, more time.

    Raises:
        ConfigError: a size is not positive, or two of them contradict each other.
    """

    dim: int
    depth: int
    heads: int
    hidden: int
    patch: int = 16
    grid: int = 14
    window: int = 0
    global_blocks: tuple[int, ...] = ()
    drop_path: float = 0.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "hidden", "patch", "grid"):
            _check_int(name, getattr(self, name), least=1)
        _check_int("window", self.window, least=0)
        if self.dim % self.heads:
            raise ConfigError(
                f"{self.dim} channels don't divide into {self.heads} heads",
                fix="make dim a multiple of heads",
            )
        if not 0 <= self.drop_path < 1:
            raise ConfigError(
                f"drop_path is {self.drop_path}, want 0 <= drop_path < 1", fix="0.1 is usual"
            )
        self._check_global_blocks()

    def _check_global_blocks(self) -> None:
        blocks: Sequence[int] = self.global_blocks
        for block in blocks:
            _check_int("global_blocks", block, least=0)
            if block >= self.depth:
                raise ConfigError(
                    f"global block {block} of an encoder of {self.depth} blocks",
                    fix=f"count blocks from 0 to {self.depth - 1}",
                )
        if blocks and not self.window:
            raise ConfigError(
                f"global_blocks are {tuple(blocks)}, but window is 0: every block is global",
                fix="set window, or leave global_blocks out",
            )
        # a list from a configuration file
        object.__setattr__(self, "global_blocks", tuple(sorted(set(blocks))))


def _check_int(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name} is {value!r}, want a whole number >= {least}", fix=f"correct {name}"
        )


VARIANTS = {
    "base": EncoderSettings(768, 12, 12, 3072),
    "large": EncoderSettings(1024, 24, 16, 4096),
    "small": EncoderSettings(192, 12, 3, 768),
    "small256": EncoderSettings(256, 8, 4, 1024),
    "tiny": EncoderSettings(128, 4, 4, 512),
}
"""base and large are the published ones; small ones train on two CPU cores; tiny is for tests."""


def settings_of(variant: str, **changes: Any) -> EncoderSettings:
    """The settings of a named variant, some of them changed.

    Args:
        variant: a key of `VARIANTS`.
        **changes: fields of `EncoderSettings`.

    Raises:
        ConfigError: there is no such variant or setting, or a value is out of range.
    """
    if variant not in VARIANTS:
        raise ConfigError(
            f"there is no encoder variant {variant!r}", fix=f"choose of {', '.join(VARIANTS)}"
        )
    names = [f.name for f in fields(EncoderSettings)]
    for name in changes:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                f"the encoder has no setting {name!r}",
                fix=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}",
            )
    return replace(VARIANTS[variant], **changes)
