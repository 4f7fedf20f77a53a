"""MultiWay-Adapter: what a task adds to a frozen encoder's blocks, and how it is switched.

With x' the tokens after a block's attention (thesis, equations 6.1 and 6.2, figure 6.1):

    New Knowledge Extractor   x~ = ReLU(LN(x') W_down) W_up
                              x  = FFN(LN(x')) + alpha x~ + x'
    Alignment Enhancer        x  + alpha ReLU(LN(x) W_down) W_up      "mimics", "on top"

The extractor's LN is the block's own. The text gives the enhancer none of its own, either: it
gets a LayerNorm without weights, which loses nothing, because scale and shift in front of a
matrix with a bias can be moved into both.

A fresh adapter changes nothing, because its W_up are 0. It can't be merged into the frozen
matrices: ReLU stands between its two, and a LayerNorm before the FFN's second.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from robollm.core.errors import ConfigError
from robollm.train.beit3.attention import EPS
from robollm.train.beit3.blocks import Block
from robollm.train.beit3.encoder import Beit3Encoder


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Sizes of an adapter; the defaults are the thesis' (section 6.2.3).

    Attributes:
        extractor: middle channels of the New Knowledge Extractor; 0 leaves it out.
        enhancer: middle channels of the Alignment Enhancer; 0 leaves it out.
        alpha: factor of both; the text gives no number, the authors' example has 0.6.

    Raises:
        ConfigError: a value is out of range.
    """

    extractor: int = 64
    enhancer: int = 128
    alpha: float = 0.6

    def __post_init__(self) -> None:
        if self.extractor < 0 or self.enhancer < 0 or not self.extractor + self.enhancer:
            raise ConfigError(
                f"adapter of {self.extractor} + {self.enhancer} middle channels, want none "
                "negative and one positive",
                fix="the thesis' are 64 and 128",
            )
        if not self.alpha > 0:
            raise ConfigError(f"alpha is {self.alpha}, want > 0", fix="0.6 is usual")


class Bottleneck(nn.Module):
    """Down, ReLU, up; 0 at first.

    Args:
        dim: channels of a token.
        middle: channels inside.
    """

    def __init__(self, dim: int, middle: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, middle)
        self.up = nn.Linear(middle, dim)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        out: Tensor = self.up(F.relu(self.down(x)))
        return out


class MultiWayAdapter(nn.Module):
    """One task's addition to one block.

    Args:
        dim: channels of a token.
        settings: sizes.
    """

    def __init__(self, dim: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings
        self.extractor = Bottleneck(dim, settings.extractor) if settings.extractor else None
        self.enhancer = Bottleneck(dim, settings.enhancer) if settings.enhancer else None

    def forward(self, x: Tensor, normed: Tensor, y: Tensor) -> Tensor:
        """What is added to x.

        Args:
            x: (B, T, C), after the block's attention.
            normed: (B, T, C), the block's LN(x).
            y: (B, T, C), the block's FFN(LN(x)).
        """
        if self.extractor is not None:
            y = y + self.settings.alpha * self.extractor(normed)
        if self.enhancer is not None:
            top = x + y
            y = y + self.settings.alpha * self.enhancer(F.layer_norm(top, top.shape[-1:], eps=EPS))
        return y


def attach(
    encoder: Beit3Encoder, tasks: Iterable[str], settings: AdapterSettings | None = None
) -> None:
    """Give every block a fresh adapter per task. None is switched on.

    Weights are named `blocks.i.adapters.<task>.{extractor,enhancer}.{down,up}.{weight,bias}`.

    Args:
        encoder: gets them, on its device.
        tasks: names.
        settings: sizes; by default the thesis'.

    Raises:
        ConfigError: a name can't be one, or has an adapter already.
    """
    settings = settings or AdapterSettings()
    for task in tasks:
        if not task.isidentifier():
            raise ConfigError(f"a task can't be called {task!r}", fix="use letters, digits and _")
        if task in attached(encoder):
            raise ConfigError(
                f"the encoder has an adapter for {task!r} already", fix="give every task once"
            )
        for adapters in _by_block(encoder):
            adapter = MultiWayAdapter(encoder.settings.dim, settings)
            adapters[task] = adapter.to(encoder.cls_token.device)


def attached(encoder: Beit3Encoder) -> tuple[str, ...]:
    """The tasks that have adapters, in the order in which they came."""
    return tuple(_by_block(encoder)[0])


def settings_of_task(encoder: Beit3Encoder, task: str) -> AdapterSettings:
    """The sizes of one task's adapters.

    Raises:
        ConfigError: the encoder has no adapter for this task.
    """
    if task not in attached(encoder):
        raise ConfigError(
            f"the encoder has no adapter for {task!r}, but for "
            f"{', '.join(attached(encoder)) or 'nothing'}",
            fix="attach or load it first",
        )
    return cast(MultiWayAdapter, _by_block(encoder)[0][task]).settings


def freeze(encoder: Beit3Encoder) -> None:
    """Let nothing of the encoder learn but its adapters, if it has any.

    Weights are all that training could move: the encoder keeps no running statistics.
    """
    for name, weight in encoder.named_parameters():
        weight.requires_grad_(".adapters." in name)


class Switched:
    """What `switch` gives: leaving its `with` block takes the switch back.

    Args:
        encoder: that was switched.
        before: its task until then.
    """

    def __init__(self, encoder: Beit3Encoder, before: str | None) -> None:
        self._encoder, self._before = encoder, before

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._encoder.task = self._before


def switch(encoder: Beit3Encoder, task: str | None) -> Switched:
    """Turn one task's adapters on, and all others off.

    It works at once and lasts; used in `with`, until the end of the block only.

    Args:
        encoder: with adapters.
        task: whose; None is the encoder alone.

    Raises:
        ConfigError: the encoder has no adapter for this task.
    """
    if task is not None:
        settings_of_task(encoder, task)
    before, encoder.task = encoder.task, task
    return Switched(encoder, before)


def bake(encoder: Beit3Encoder, task: str) -> Beit3Encoder:
    """A copy with one task's adapters, always on, and no others.

    Its outputs are those of the switched encoder, bit for bit.

    Raises:
        ConfigError: the encoder has no adapter for this task.
    """
    with switch(encoder, task):
        baked = copy.deepcopy(encoder)
    for adapters in _by_block(baked):
        for other in attached(encoder):
            if other != task:
                del adapters[other]
    return baked


def _by_block(encoder: Beit3Encoder) -> list[nn.ModuleDict]:
    return [cast(Block, block).adapters for block in encoder.blocks]
