"""MMEngine's Runner with checkpoints that appear whole, load safely and resume bit-equal."""

from __future__ import annotations

import contextlib
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

from robollm.core.errors import ConfigError, ModelFileError, TrainingError
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
        try:
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
        except OSError as e:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise TrainingError(
                f"{path} can't be written at step {self.train_loop.iter}: {e}; the checkpoint "
                "before it is as it was",
                fix="make room, and give the same command again",
            ) from e

    def keep(self) -> None:
        """Write `last.pth`, between two steps."""
        for hook in self.hooks:
            if isinstance(hook, KeepLast):
                hook.save(self)


@HOOKS.register_module()
class KeepLast(Hook):  # type: ignore[misc]
    """Writes `last.pth` when the loop says so, and resumes exactly from it.

    Args:
        folder: the run folder.
    """

    priority = "LOWEST"

    def __init__(self, folder: str) -> None:
        self._path = Path(folder) / LAST
        self._states: list[Any] = []

    def save(self, runner: TrainRunner) -> None:
        """Save all that the next step depends on; every process calls this."""
        self._states = all_gather_object(random_state.state())
        runner.call_hook("before_save")
        runner.save(self._path, whole=True)

    @staticmethod
    def _plan(runner: Any) -> dict[str, int]:
        loop = runner.train_loop
        return {
            "steps": int(loop.max_iters),
            "processes": int(get_world_size()),
            "samples": len(loop.plan.dataset),
        }

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Leave out MMEngine's log buffers, which need code to load; add the random state."""
        checkpoint["message_hub"] = {
            "log_scalars": OrderedDict(),
            "runtime_info": OrderedDict(),
            "resumed_keys": OrderedDict(),
        }
        if "optimizer" in checkpoint:
            checkpoint["random_states"] = self._states
            checkpoint["plan"] = self._plan(runner)
        else:
            checkpoint.pop("ema_state_dict", None)

    def after_load_checkpoint(self, runner: Any, checkpoint: Mapping[str, Any]) -> None:
        """Hand the random state to the loop.

        Raises:
            ConfigError: if the rest of the run would be another one: the learning rate follows
                the number of steps, the batches that of processes and samples.
        """
        if not runner._resume:
            return
        was, now = checkpoint["plan"], self._plan(runner)
        changed = [f"{was[k]} {k}, now {now[k]}" for k in now if was[k] != now[k]]
        if changed:
            raise ConfigError(
                f"{self._path} belongs to a run of {'; '.join(changed)}",
                fix="go on as it was, or begin anew in another --out, from its weights if you "
                f"like: --set load_from={self._path.parent / BEST}",
            )
        runner.train_loop.random_state = checkpoint["random_states"][get_rank()]
