"""Defect classification from the shared encoder (thesis section 8.3; RoboLLM's "Defect" head)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from robollm.core.errors import ConfigError
from robollm.data.armbench_defects import LABELS
from robollm.train.features import Encode, Losses, TaskHead

POOLS = ("mean", "max", "attention")


class Pool(nn.Module):
    """Pools features over time; what is absent has no influence, and one frame stays itself.

    Args:
        way: one of `POOLS`.
        channels: C.
    """

    def __init__(self, way: str, channels: int) -> None:
        super().__init__()
        self.way = way
        self.score = nn.Linear(channels, 1) if way == "attention" else None

    def forward(self, frames: Tensor, present: Tensor) -> Tensor:
        """Pool (B, T, C) with (B, T) bool to (B, C); every row has one present frame or more."""
        absent = ~present[..., None]
        if self.way == "max":
            return frames.masked_fill(absent, -torch.inf).amax(dim=1)
        score = torch.zeros_like(frames[..., :1]) if self.score is None else self.score(frames)
        weight = score.float().masked_fill(absent, -torch.inf).softmax(dim=1)
        return (weight.to(frames.dtype) * frames.masked_fill(absent, 0.0)).sum(dim=1)


@MODELS.register_module()
class DefectHead(TaskHead):
    """Mean of the patch tokens -> LayerNorm -> Linear, cross-entropy.

    Sequences: the normalised features of an induct's frames are pooled before the linear layer.
    Reference: from crop features f and reference features r an MLP on (f, r, f - r, f * r) adds
    to the linear layer's logits; its last layer starts at 0, so training starts at the plain
    head. Without a reference a learned vector stands for r.

    Args:
        in_channels: C of the encoder's map.
        smoothing: label smoothing.
        class_weights: factors of the classes' losses, in the order of `LABELS`; None: all 1.
        pool: over time, one of `POOLS`.
        frame_weight: factor of the loss of the frames' own labels in a sequence; 0: none.
        reference: whether the input has reference pictures.
        hidden: width of the MLP.
        dropout: of the features before the layers.

    Raises:
        ConfigError: for a setting out of range.
    """

    task: ClassVar[str] = "defects"

    def __init__(
        self,
        in_channels: int,
        *,
        smoothing: float = 0.1,
        class_weights: Sequence[float] | None = None,
        pool: str = "mean",
        frame_weight: float = 0.0,
        reference: bool = False,
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        weights = tuple(class_weights or (1.0,) * len(LABELS))
        if (
            pool not in POOLS
            or not (0 <= smoothing < 1 and 0 <= dropout < 1 and frame_weight >= 0)
            or len(weights) != len(LABELS)
            or min(weights) <= 0
        ):
            raise ConfigError(
                f"pool {pool!r}, smoothing {smoothing}, dropout {dropout}, frame_weight "
                f"{frame_weight}, class_weights {weights}; want pool of {', '.join(POOLS)}, "
                f"smoothing and dropout 0 to 1, frame_weight >= 0, {len(LABELS)} positive weights",
                fix="correct the head's settings",
            )
        self._smoothing, self._frame_weight = smoothing, frame_weight
        self.register_buffer("class_weights", torch.tensor(weights), persistent=False)
        self.norm = nn.LayerNorm(in_channels)
        self.drop = nn.Dropout(dropout)
        self.pool = Pool(pool, in_channels)
        self.classify = nn.Linear(in_channels, len(LABELS))
        nn.init.trunc_normal_(self.classify.weight, std=0.02)
        nn.init.zeros_(self.classify.bias)
        self.no_reference: nn.Parameter | None = None
        self.compare: nn.Sequential | None = None
        if reference:
            self.no_reference = nn.Parameter(torch.zeros(in_channels))
            last = nn.Linear(hidden, len(LABELS))
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.compare = nn.Sequential(nn.Linear(4 * in_channels, hidden), nn.GELU(), last)

    def _features(self, encode: Encode, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Encode all pictures that are there, at once.

        Returns:
            (B, T, C) of the frames, 0 where absent, and (B, C) of the references.
        """
        present = inputs["present"]
        pictures = [inputs["images"][present]]
        if self.no_reference is not None:
            if "reference" not in inputs:
                raise ConfigError(
                    "the head compares with references, but the data has none",
                    fix="set reference=True in the dataset, or reference=False in the head",
                )
            pictures.append(inputs["reference"][inputs["has_reference"]])
        found = encode(torch.cat(pictures)).map.mean(dim=(2, 3))
        found = self.drop(self.norm(found))
        frames = found.new_zeros(*present.shape, found.shape[1])
        count = len(pictures[0])
        frames = frames.masked_scatter(present[..., None], found[:count])
        if self.no_reference is None:
            return frames, frames[:, 0]
        has = inputs["has_reference"][:, None]
        references = self.no_reference.to(found.dtype).repeat(len(present), 1)
        return frames, references.masked_scatter(has, found[count:])

    def _logits(self, seen: Tensor, references: Tensor) -> Tensor:
        """Classify features: (N, C) and (N, C) to (N, 3) float32."""
        logits: Tensor = self.classify(seen)
        if self.compare is not None:
            pair = (seen, references, seen - references, seen * references)
            logits = logits + self.compare(torch.cat(pair, dim=-1))
        return logits.float()

    def _both(self, encode: Encode, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of the samples (B, 3), and of the frames that are there (N, 3), in order."""
        frames, references = self._features(encode, inputs)
        present = inputs["present"]
        whole = self._logits(self.pool(frames, present), references)
        if present.shape[1] == 1:
            return whole, whole
        each = references[:, None].expand_as(frames)[present]
        return whole, self._logits(frames[present], each)

    def _cross_entropy(self, logits: Tensor, labels: Sequence[int]) -> Tensor:
        weight = self.get_buffer("class_weights")
        wanted = torch.tensor(labels, device=logits.device)
        return functional.cross_entropy(
            logits, wanted, weight=weight, label_smoothing=self._smoothing
        )

    def loss(self, encode: Encode, inputs: Any, data_samples: Any) -> Losses:
        """See `TaskHead.loss`: `loss_defect`, `loss_defect_frames`, `defect_accuracy`."""
        whole, each = self._both(encode, inputs)
        labels = [one["label"] for one in data_samples]
        losses = {"loss_defect": self._cross_entropy(whole, labels)}
        if inputs["present"].shape[1] > 1 and self._frame_weight:
            own = [label for one in data_samples for label in one["frame_labels"]]
            losses["loss_defect_frames"] = self._frame_weight * self._cross_entropy(each, own)
        right = whole.detach().argmax(dim=1).cpu() == torch.tensor(labels)
        losses["defect_accuracy"] = right.float().mean()
        return losses

    @torch.no_grad()
    def predict(self, encode: Encode, inputs: Any, data_samples: Any) -> list[dict[str, Any]]:
        """See `TaskHead.predict`.

        Returns:
            Per sample what `DefectData` tells, `probabilities` (3,) float32,
            `frame_probabilities` (n, 3) float32 of the n frames that are there, and `sequence`:
            whether the two can differ.
        """
        whole, each = (x.softmax(dim=1).cpu() for x in self._both(encode, inputs))
        counts = inputs["present"].sum(dim=1).tolist()
        return [
            {
                **one,
                "probabilities": p.numpy(),
                "frame_probabilities": f.numpy(),
                "sequence": inputs["present"].shape[1] > 1,
            }
            for one, p, f in zip(data_samples, whole, torch.split(each, counts), strict=True)
        ]
