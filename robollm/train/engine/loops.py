"""The training loop that goes on where it was, and a validation that leaves no trace."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, ValLoop
from torch.utils.data import DataLoader

from robollm.core.errors import ConfigError, TrainingError
from robollm.train.engine import random_state
from robollm.train.engine.draws import Batches
from robollm.train.engine.optim import GuardedOptimWrapper, NotFiniteError


@LOOPS.register_module()
class StepLoop(BaseLoop):  # type: ignore[misc]
    """Steps over an endless plan of batches; give epochs or steps.

    Args:
        runner: MMEngine's.
        dataloader: its `batch_sampler` is a `Batches`.
        max_epochs: an epoch is `len(batch_sampler)` steps.
        max_steps: instead of epochs.
        val_epochs: validate after so many epochs.
        val_steps: instead of epochs.
        keep_every: steps between two checkpoints; there is one after each validation, too.

    With accumulated gradients a step is still one batch; validations and checkpoints wait until an
    update is done.

    Raises:
        ConfigError: if neither or both of a pair are given, or the loader has another sampler.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader[Any] | dict[str, Any],
        *,
        max_epochs: float = 0,
        max_steps: int = 0,
        val_epochs: float = 0,
        val_steps: int = 0,
        keep_every: int = 200,
    ) -> None:
        super().__init__(runner, dataloader)
        plan = self.dataloader.batch_sampler
        if not isinstance(plan, Batches):
            raise ConfigError(
                f"the training loader's batch_sampler is a {type(plan).__name__}, want a Batches",
                fix="set train_dataloader.batch_sampler, for example ShuffledBatches",
            )
        if bool(max_epochs) == bool(max_steps) or (val_epochs and val_steps):
            raise ConfigError(
                f"max_epochs={max_epochs}, max_steps={max_steps}, val_epochs={val_epochs}, "
                f"val_steps={val_steps}: want one of each pair",
                fix="set the other to 0",
            )
        self.plan = plan
        self.epoch_steps = len(plan)
        self._max_iters = max_steps or max(1, round(max_epochs * self.epoch_steps))
        every = val_steps or round((val_epochs or 1) * self.epoch_steps)
        self.val_interval = max(1, min(every, self._max_iters))
        self.keep_every = keep_every
        self.val_begin = 1
        self._epoch = self._iter = 0
        self.stop_training = False
        self.random_state: dict[str, Any] | None = None

    @property
    def max_epochs(self) -> int:
        """Epochs, rounded up."""
        return -(-self._max_iters // self.epoch_steps)

    @property
    def max_iters(self) -> int:
        """Steps."""
        return self._max_iters

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return self._iter // self.epoch_steps

    @property
    def iter(self) -> int:
        """Steps that are over."""
        return self._iter

    def run(self) -> Any:
        """Train to the end, or until a hook sets `stop_training`; returns the model.

        Raises:
            TrainingError: if a loss or gradient is not finite; the weights are as before.
        """
        runner = self.runner
        window = runner.optim_wrapper.accumulated
        self.val_interval = -(-self.val_interval // window) * window
        keep = -(-self.keep_every // window) * window
        runner.call_hook("before_train")
        self.plan.start = self._iter
        with random_state.untouched():  # a loader draws a seed for its workers
            batches = iter(self.dataloader)
        if self.random_state is not None:
            random_state.restore(self.random_state)
        elif get_world_size() > 1:  # the weights are the first process'; what is dropped is not
            torch.manual_seed(runner.seed + 1_000_003 * get_rank())
        runner.call_hook("before_train_epoch")  # also of an epoch that goes on
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self._step(next(batches))
            if self._iter % self.epoch_steps == 0:
                runner.call_hook("after_train_epoch")
                runner.call_hook("before_train_epoch")
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if due:
                runner.val_loop.run()
            if due or self._iter % keep == 0:
                runner.keep()
        runner.call_hook("after_train")
        return runner.model

    def _step(self, batch: dict[str, Any]) -> None:
        place = {"batch_idx": self._iter, "data_batch": batch}
        self.runner.call_hook("before_train_iter", **place)
        try:
            outputs = self.runner.model.train_step(batch, optim_wrapper=self.runner.optim_wrapper)
        except NotFiniteError as e:
            names = ", ".join(n for n in batch["names"] if n)
            raise TrainingError(
                f"step {self._iter + 1}: {e}, on {batch['task']} samples {names}; this step was "
                "not taken",
                fix="look at these samples; else lower the learning rate, clip gradients or "
                "switch amp off, and start again: it resumes from the last checkpoint",
            ) from e
        with warnings.catch_warnings():
            # With accumulated gradients schedules step before the optimiser's first update.
            warnings.filterwarnings("ignore", "Detected call of `scheduler.step")
            self.runner.call_hook("after_train_iter", **place, outputs=outputs)
        self._iter += 1


@LOOPS.register_module()
class CheckedValLoop(ValLoop):  # type: ignore[misc]
    """MMEngine's validation; counts samples that can't be read, and leaves no trace in training."""

    def run(self) -> dict[str, float]:
        """Validate.

        Raises:
            TrainingError: if not one sample could be used.
        """
        self._used = 0
        wrapper = getattr(self.runner, "optim_wrapper", None)
        same = wrapper.autocast() if isinstance(wrapper, GuardedOptimWrapper) else nullcontext()
        with random_state.untouched(), same:
            metrics: dict[str, float] = super().run()
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Sequence[Any]) -> None:
        """One batch; one without a usable sample is only counted."""
        batch: Any = data_batch
        if batch["inputs"] is None:
            self.runner.call_hook("after_val_iter", batch_idx=idx, data_batch=batch, outputs=())
        else:
            self._used += len(batch["names"])
            super().run_iter(idx, batch)
        last = idx == len(self.dataloader) - 1
        if last and get_world_size() == 1 and not self._used:
            raise TrainingError(
                f"none of {len(self.dataloader.dataset)} validation samples could be used",
                fix="read problems.txt in the run folder",
            )
