"""One shared encoder, one head per task: the model behind every verb but plain segmentation.

The detector alone is MMDetection's own CascadeRCNN; together with other tasks it is one head more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from robollm.core.errors import ConfigError, ModelFileError
from robollm.train.adapters.multiway import AdapterSettings, attach, freeze, switch
from robollm.train.engine.runner import load
from robollm.train.features import Encode, Losses, TaskHead

MEAN = STD = 127.5
"""Pixels become (x - MEAN) / STD, as in BEiT-3's retrieval fine-tuning and in RoboLLM."""


def normalise(value: Any) -> Any:
    """Turn every uint8 tensor in a nest of mappings, lists and tensors into normalised floats."""
    if isinstance(value, Tensor):
        return (value.float() - MEAN) / STD if value.dtype == torch.uint8 else value
    if isinstance(value, Mapping):
        return {k: normalise(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [normalise(v) for v in value]
    return value


@MODELS.register_module()
class TaskPreprocessor(BaseDataPreprocessor):  # type: ignore[misc]
    """Moves a batch to the device and normalises its pixels; keeps what forward wants."""

    def __init__(self) -> None:
        super().__init__()
        self.for_task: dict[str, Any] = {}

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Take `inputs`, `data_samples` and `task` out of a batch of `collate`."""
        task = data["task"]
        if task in self.for_task:
            wanted = {k: data[k] for k in ("inputs", "data_samples")}
            return {**self.for_task[task](wanted, training), "task": task}
        moved = self.cast_data({"inputs": data["inputs"], "data_samples": data["data_samples"]})
        return {
            "inputs": normalise(moved["inputs"]),
            "data_samples": moved["data_samples"],
            "task": task,
        }


class _Borrowed(nn.Module):
    """A detector's backbone that is somebody else's encoder: it has no weights of its own."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self._encoder = (encoder,)  # in a tuple, so that its weights aren't listed twice

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """See `Beit3Encoder`; the map alone."""
        return (self._encoder[0](image).map,)


class DetectorHead(TaskHead):
    """MMDetection's detector as one of several heads, on the shared encoder.

    Args:
        detector: config of a detector; its backbone is not built. `init_checkpoint`: a run's of
            `robollm train segmentation`, which gives every weight but the encoder's.
        encoder: the shared one.

    Raises:
        ModelFileError: if the checkpoint can't be read, or has not just these weights.
    """

    task: ClassVar[str] = "segmentation"

    def __init__(self, detector: Mapping[str, Any], encoder: nn.Module) -> None:
        super().__init__()
        rest = {k: v for k, v in detector.items() if k != "init_checkpoint"}
        self._first = detector.get("init_checkpoint")
        self.detector: Any = MODELS.build({**rest, "backbone": {"type": "NoBackbone"}})
        self.detector.backbone = _Borrowed(encoder)

    def init_weights(self) -> None:
        """See `mmengine.model.BaseModule`."""
        self.detector.init_weights()
        if self._first:
            self._start_from(self._first)

    def _start_from(self, path: str) -> None:
        state = load(path)["state_dict"]
        own = {k: v for k, v in state.items() if not k.startswith("backbone.")}
        try:
            self.detector.load_state_dict(own)
        except RuntimeError as e:
            raise ModelFileError(
                f"{path} doesn't fit this detector: {e}",
                fix="give the best.pth of `robollm train segmentation` with the same config",
            ) from e

    def loss(self, encode: Encode, inputs: Any, data_samples: Any) -> Losses:
        """See `TaskHead.loss`; `encode` is the borrowed encoder itself."""
        losses: Losses = self.detector(inputs, data_samples, mode="loss")
        return losses

    def predict(self, encode: Encode, inputs: Any, data_samples: Any) -> list[Any]:
        """See `TaskHead.predict`; gives MMDetection's data samples."""
        return list(self.detector(inputs, data_samples, mode="predict"))


@MODELS.register_module()
class NoBackbone(nn.Module):
    """Stands where a shared encoder will be put."""


@MODELS.register_module()
class TaskModel(BaseModel):  # type: ignore[misc]
    """A BEiT-3 encoder and the heads of one or several tasks (thesis section 8.3).

    Args:
        encoder: config of the encoder.
        heads: task -> config of its head, or of a detector for `segmentation`.
        weights: task -> factor of its losses; 1 where not given.
        adapters: settings of MultiWay-Adapters, one set per task, on a frozen encoder (thesis
            chapter 6); None: the encoder itself is trained.
        frozen: train the heads alone.

    Raises:
        ConfigError: if there is no head, or a weight or head of a task that isn't there.
    """

    def __init__(
        self,
        encoder: dict[str, Any],
        heads: dict[str, dict[str, Any]],
        weights: Mapping[str, float] | None = None,
        adapters: Mapping[str, Any] | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__(data_preprocessor={"type": "TaskPreprocessor"})
        self.weights = dict(weights or {})
        if not heads or set(self.weights) - set(heads):
            raise ConfigError(
                f"heads are {sorted(heads)} and loss weights {sorted(self.weights)}",
                fix="give at least one head, and weights of those heads only",
            )
        self.encoder: Any = MODELS.build(encoder)
        self.heads = nn.ModuleDict({t: self._head(t, c) for t, c in heads.items()})
        self.adapted = adapters is not None
        if adapters is not None:
            attach(self.encoder, tuple(heads), AdapterSettings(**adapters))
        if adapters is not None or frozen:
            freeze(self.encoder)

    def init_weights(self) -> None:
        """See `mmengine.model.BaseModule`, which doesn't look into a ModuleDict."""
        super().init_weights()
        for head in self.heads.values():
            if isinstance(head, DetectorHead):
                head.init_weights()

    def _head(self, task: str, config: dict[str, Any]) -> nn.Module:
        if task != DetectorHead.task:
            head: nn.Module = MODELS.build(config)
            return head
        detector = DetectorHead(config, self.encoder)
        self.data_preprocessor.for_task[task] = detector.detector.data_preprocessor
        return detector

    def forward(
        self, inputs: Any, data_samples: Any = None, mode: str = "tensor", task: str = ""
    ) -> Any:
        """Losses or predictions of one batch, all of one task.

        Raises:
            ConfigError: for a task without a head, or another mode.
        """
        if not task and len(self.heads) == 1:
            task = next(iter(self.heads))
        if task not in self.heads:
            raise ConfigError(
                f"a batch of {task!r}, but heads are {', '.join(self.heads)}",
                fix="set the dataset's task, or add a head",
            )
        head: Any = self.heads[task]
        if self.adapted:
            switch(self.encoder, task)  # for good: the backward pass may run blocks once more
        if mode == "loss":
            factor = self.weights.get(task, 1.0)
            losses = head.loss(self.encoder, inputs, data_samples)
            return {k: _times(v, factor) if "loss" in k else v for k, v in losses.items()}
        if mode == "predict":
            return head.predict(self.encoder, inputs, data_samples)
        raise ConfigError(f"mode is {mode!r}, want 'loss' or 'predict'")


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, (list, tuple)):
        return [v * factor for v in value]
    return value * factor
