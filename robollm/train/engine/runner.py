"""MMEngine's Runner with checkpoints that appear whole, load safely and resume bit-equal."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from robollm.core.errors import ModelFileError
from robollm.train.engine import random_state

LAST, BEST = "last.pth", "best.pth"


def load(path: Path | str, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a run: tensors and plain values, nothing that runs code.

    Raises:
        ModelFileError: if it is missing, cut off, or holds anything else.
    """
    try:
        value = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as e:
        raise ModelFileError(
            f"{path} is not a readable checkpoint: {str(e).splitlines()[0] if str(e) else e!r}",
            fix="give a checkpoint of `robollm train`, or train again",
        ) from e
    if not isinstance(value, dict) or "state_dict" not in value:
        keys = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise ModelFileError(
            f"{path} holds {keys}, want state_dict", fix="give a checkpoint of `robollm train`"
        )
    return value


class TrainRunner(Runner):  # type: ignore[misc]
    """MMEngine's Runner; only how it reads and writes files differs."""

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = "cpu",
        strict: bool = True,
        revise_keys: Any = (),
    ) -> dict[str, Any]:
        """Load a checkpoint of our own into the model; every weight must be there.

        Raises:
            ModelFileError: if it can't be read or doesn't fit the model.
        """
        checkpoint = load(filename, str(map_location))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model: Any = getattr(self.model, "module", self.model)
        try:
            model.load_state_dict(checkpoint["state_dict"], strict=strict)
        except RuntimeError as e:
            raise ModelFileError(
                f"{filename} doesn't fit this model: {e}", fix="use the config it was made with"
            ) from e
        self._has_loaded = True
        return checkpoint

    def save(self, path: Path, *, whole: bool) -> None:
        """Write a checkpoint that appears complete, in the main process.

        Args:
            path: the file.
            whole: with all that resuming needs; else weights alone.
        """
        part = path.with_name(f".{path.name}.tmp")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.save_checkpoint(
                str(part.parent),
                part.name,
                save_optimizer=whole,
                save_param_scheduler=whole,
                meta={"epoch": self.epoch, "iter": self.train_loop.iter},
                by_epoch=False,
            )
        if is_main_process():
            part.replace(path)


@HOOKS.register_module()
class KeepLast(Hook):  # type: ignore[misc]
    """Writes `last.pth` now and then, and resumes exactly from it.

    Args:
        folder: the run folder.
        every: steps between two checkpoints.
    """

    priority = "LOWEST"

    def __init__(self, folder: str, every: int) -> None:
        self._path = Path(folder) / LAST
        self._every = every
        self._states: list[Any] = []
        self._at = -1

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Remember that a step is over; the loop counts it after this."""
        done = batch_idx + 1
        validated = runner.val_loop is not None and done % runner.train_loop.val_interval == 0
        if done % self._every == 0 and not validated:
            self._save(runner, done)

    def after_val(self, runner: Any) -> None:
        """Save after each validation: what was selected and when is part of the state."""
        self._save(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Save the end."""
        self._save(runner, runner.iter)

    def _save(self, runner: Any, step: int) -> None:
        if step == self._at:
            return
        self._at = step
        self._states = all_gather_object(random_state.state())
        kept, runner.train_loop._iter = runner.train_loop._iter, step
        try:
            runner.save(self._path, whole=True)
        finally:
            runner.train_loop._iter = kept

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Leave out MMEngine's log buffers, which need code to load; add the random state."""
        checkpoint["message_hub"] = {
            "log_scalars": OrderedDict(),
            "runtime_info": OrderedDict(),
            "resumed_keys": OrderedDict(),
        }
        if "optimizer" in checkpoint:
            checkpoint["random_states"] = self._states
        else:
            checkpoint.pop("ema_state_dict", None)

    def after_load_checkpoint(self, runner: Any, checkpoint: Mapping[str, Any]) -> None:
        """Hand the random state to the loop; with another number of processes there is none."""
        states = checkpoint.get("random_states", ())
        if runner._resume and len(states) == get_world_size():
            runner.train_loop.random_state = states[get_rank()]
        elif runner._resume:
            runner.logger.warning(
                f"the checkpoint was made by {len(states)} processes, this run has "
                f"{get_world_size()}: it goes on, but not with the same random numbers"
            )
