"""The optimiser step: mixed precision by choice, and never a step on something not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from robollm.core.errors import ConfigError

_LEAST_SCALE = 1.0
_AMP = {"": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class NotFiniteError(Exception):
    """A loss or a gradient is not finite; the weights have not been touched.

    Args:
        what: `loss` or `gradient`.
        value: what it was.
    """

    def __init__(self, what: str, value: float) -> None:
        super().__init__(f"the {what} is {value}")
        self.what = what
        self.value = value


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """MMEngine's wrapper with autocast on any device, which refuses what is not finite.

    Args:
        amp: type of the matrix products in the forward pass: "" (float32), "bfloat16" (CPU or
            GPU), or "float16" (with loss scaling, for GPUs without bfloat16).
        device: "cpu", "cuda", ...
        **options: see `mmengine.optim.OptimWrapper`; `clip_grad=dict(max_norm=...)` clips.

    Raises:
        ConfigError: for another `amp`.
    """

    def __init__(self, *, amp: str = "", device: str = "cpu", **options: Any) -> None:
        super().__init__(**options)
        if amp not in _AMP:
            raise ConfigError(f"amp is {amp!r}, want one of {', '.join(map(repr, _AMP))}")
        if not set(self.clip_grad_kwargs or {}) <= {"max_norm", "norm_type"}:
            raise ConfigError(
                f"clip_grad is {self.clip_grad_kwargs}, want max_norm and perhaps norm_type",
                fix="clip by norm: clip_grad=dict(max_norm=1.0)",
            )
        self._dtype = _AMP[amp]
        self._device = device
        self._scaler = torch.amp.GradScaler(device) if amp == "float16" else None

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: dict[str, Any] | None = None,
        zero_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Go one step down.

        Raises:
            NotFiniteError: if the loss or, once all is accumulated, a gradient is not finite.
        """
        if not torch.isfinite(loss):
            raise NotFiniteError("loss", float(loss.detach()))
        super().update_params(loss, step_kwargs, zero_kwargs)

    def backward(self, loss: Tensor, **options: Any) -> None:
        """See `OptimWrapper.backward`."""
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        super().backward(loss, **options)

    def step(self, **options: Any) -> None:
        """Clip, look, and step.

        Raises:
            NotFiniteError: if a gradient is not finite, and no loss scale is there to shrink.
        """
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        norm = self._norm()
        if self._scaler is not None:  # it skips this step by itself, and scales less in the next
            self._scaler.step(self.optimizer, **options)
            self._scaler.update()
            if self._scaler.get_scale() < _LEAST_SCALE:  # no scale helps against a NaN
                raise NotFiniteError("gradient", norm)
            return
        if not math.isfinite(norm):
            raise NotFiniteError("gradient", norm)
        self.optimizer.step(**options)

    def _norm(self) -> float:
        groups = self.optimizer.param_groups
        grads = [p for g in groups for p in g["params"] if p.grad is not None]
        limit = {"max_norm": math.inf, **(self.clip_grad_kwargs or {})}
        norm = float(nn.utils.clip_grad_norm_(grads, **limit)) if grads else 0.0
        self.message_hub.update_scalar("train/grad_norm", norm)
        return norm

    @property
    def accumulated(self) -> int:
        """Batches that make one update."""
        return int(self._accumulative_counts)

    def autocast(self) -> torch.autocast:
        """The precision of the forward pass, for training and validation."""
        enabled = self._dtype is not None
        return torch.autocast(self._device, self._dtype or torch.bfloat16, enabled=enabled)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Around the forward pass: autocast, and no needless gradient exchange."""
        with super().optim_context(model), self.autocast():
            yield

    def state_dict(self) -> dict[str, Any]:
        """See `OptimWrapper.state_dict`; with the loss scale."""
        state: dict[str, Any] = super().state_dict()
        if self._scaler is not None:
            state["loss_scaler"] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `OptimWrapper.load_state_dict`; with the loss scale."""
        if "loss_scaler" in state_dict:
            scale = state_dict.pop("loss_scaler")
            if self._scaler is not None:
                self._scaler.load_state_dict(scale)
        super().load_state_dict(state_dict)
