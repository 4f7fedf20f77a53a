"""The projection head of identification: pictures to unit vectors (thesis figure 8.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from robollm.core.errors import ConfigError
from robollm.train.features import Encode, Features, Losses, TaskHead
from robollm.train.losses.modules import ContrastiveLoss, InfoNCELoss


@MODELS.register_module()
class IdentificationHead(TaskHead):
    """Embeds picks, in one or several views, and reference images.

    One view: encoder, projection, L2. Several: the encoder's features of the views behind each
    other, two linear layers, and then the same projection; a view that is missing is replaced by
    a vector that is learned for its place. References: projection, L2.

    Args:
        dim: C, the encoder's width.
        embed_dim: D, the width of an embedding.
        loss: config of a `ContrastiveLoss`.
        pool: what represents a picture: "cls" or "mean" (of the patches).
        views: V, how many views a pick has at most.
        hidden: width between the two linear layers, if V > 1; RoboLLM: 3072 Base, 4096 Large.

    Attributes:
        latest: reference embeddings (B, D) and labels (B,) of the last training batch.

    Raises:
        ConfigError: for a setting out of range, or a loss of another kind.
    """

    task: ClassVar[str] = "identification"

    def __init__(
        self,
        *,
        dim: int,
        embed_dim: int,
        loss: Mapping[str, Any],
        pool: str = "cls",
        views: int = 1,
        hidden: int = 3072,
    ) -> None:
        super().__init__()
        if min(dim, embed_dim, views, hidden) < 1 or pool not in ("cls", "mean"):
            raise ConfigError(
                f"dim {dim}, embed_dim {embed_dim}, views {views}, hidden {hidden}, pool {pool!r}; "
                "want numbers >= 1, and pool 'cls' or 'mean'",
                fix="correct the head's settings",
            )
        self.pool, self.views = pool, views
        self.projection = nn.Linear(dim, embed_dim, bias=False)
        nn.init.trunc_normal_(self.projection.weight, std=dim**-0.5)
        if views > 1:
            self.missing = nn.Parameter(torch.zeros(views, dim))
            nn.init.trunc_normal_(self.missing, std=0.02)
            self.fusion = nn.Sequential(
                nn.Linear(views * dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
            )
        criterion = MODELS.build(dict(loss))
        if not isinstance(criterion, ContrastiveLoss):
            raise ConfigError(
                f"the loss is a {type(criterion).__name__}, want a contrastive loss",
                fix="use InfoNCELoss, LaCViTLoss, CLCELoss or SCLRHELoss",
            )
        self.criterion = criterion
        self.latest: tuple[Tensor, Tensor] | None = None

    def embed_views(self, encode: Encode, views: Tensor, present: Tensor) -> Tensor:
        """Embed picks.

        Args:
            encode: the encoder.
            views: (B, V, 3, S, S) float, normalised; what is in missing views doesn't matter.
            present: (B, V) bool, at least one per pick; with V = 1 all.

        Returns:
            (B, D) float, unit vectors.

        Raises:
            ConfigError: if a pick has no view, or the number of views is another one.
        """
        self._check(present)
        return self._unit(self._fuse(self._features(encode(views[present])), present))

    def embed_references(self, encode: Encode, images: Tensor) -> Tensor:
        """Embed reference images, (B, 3, S, S) float, normalised; returns (B, D) unit vectors."""
        return self._unit(self._features(encode(images)))

    def loss(self, encode: Encode, inputs: Any, data_samples: Any) -> Losses:
        """See `TaskHead.loss`; `inputs` and `data_samples` are those of `PickData`.

        Returns:
            `loss`; `accuracy`: share of picks whose nearest reference in the batch is of their
            product; `scale`: 1 / temperature, if that is learned.
        """
        present, references = inputs["present"], inputs["reference"]
        self._check(present)
        pictures = torch.cat([inputs["views"][present], references])
        features = self._features(encode(pictures))
        pick, reference = features[: -len(references)], features[-len(references) :]
        fused = self._fuse(pick, present)
        queries, answers = self._unit(fused), self._unit(reference)
        labels = torch.tensor([int(s["product"]) for s in data_samples], device=queries.device)
        loss = self.criterion(queries, answers, labels, torch.cat([fused, reference]))
        found = labels[(queries.detach() @ answers.detach().T).argmax(dim=1)]
        self.latest = (answers.detach().float(), labels)
        logs = {"loss": loss, "accuracy": (found == labels).float().mean()}
        if isinstance(self.criterion, InfoNCELoss):
            logs["scale"] = self.criterion.scale().detach()
        return logs

    def predict(self, encode: Encode, inputs: Any, data_samples: Any) -> list[dict[str, Any]]:
        """See `TaskHead.predict`.

        Returns:
            What `PickData` says of each sample, and `embedding`, (D,) float32 NumPy; a pick
            without a usable view has none.
        """
        views, present = inputs["views"], inputs["present"]
        is_reference = torch.tensor(
            [s["kind"] == "reference" for s in data_samples], device=present.device
        )
        is_pick = present.any(dim=1)
        pictures = torch.cat([views[present], views[is_reference, 0]])
        out: list[dict[str, Any]] = [dict(s) for s in data_samples]
        if not len(pictures):
            return out
        features = self._features(encode(pictures))
        count = int(present.sum())
        rows = torch.cat([torch.nonzero(is_pick), torch.nonzero(is_reference)]).flatten().tolist()
        parts = [features[count:]]
        if count:
            parts.insert(0, self._fuse(features[:count], present[is_pick]))
        vectors = self._unit(torch.cat(parts)).detach().cpu().numpy()
        for row, vector in zip(rows, vectors, strict=True):
            out[row]["embedding"] = vector
        return out

    def _features(self, encoded: Features) -> Tensor:
        """(B, C)."""
        return encoded.cls if self.pool == "cls" else encoded.map.flatten(2).mean(dim=2)

    def _fuse(self, features: Tensor, present: Tensor) -> Tensor:
        """Features of the views that are there, (present.sum(), C), to those of picks, (B, C)."""
        if self.views == 1:
            return features
        every = self.missing.to(features.dtype).expand(len(present), -1, -1).clone()
        every[present] = features
        return cast(Tensor, self.fusion(every.flatten(1)))

    def _unit(self, features: Tensor) -> Tensor:
        return F.normalize(self.projection(features).float(), dim=1)

    def _check(self, present: Tensor) -> None:
        if present.shape[1] != self.views or not present.any(dim=1).all():
            raise ConfigError(
                f"picks have {present.shape[1]} views, some none of them: "
                f"{not bool(present.any(dim=1).all())}; the head wants 1 to {self.views}",
                fix="set the head's views to the number of the dataset's views",
            )
