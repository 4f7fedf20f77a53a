"""The losses as modules with one interface, registered in MMEngine's MODELS."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.distributed as dist
from mmengine.registry import MODELS
from torch import Tensor, nn

from robollm.core.errors import ConfigError
from robollm.train.losses.contrastive import (
    Same,
    check_info_nce,
    check_weight,
    clce,
    info_nce,
    lacvit,
)
from robollm.train.losses.scl_rhe import Positives, check_scl_rhe, scl_rhe
from robollm.train.losses.similarity import check_batch, check_temperature, full_precision


class _Gather(torch.autograd.Function):
    """Rows of all processes, in their order. Backwards: the sum of what all processes want."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        every = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(every, rows.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


class ContrastiveLoss(nn.Module, ABC):
    """What all losses look like to a head.

    Args:
        gather: under torch.distributed, take the embeddings and labels of all processes as one
            batch, with gradients. Each process must bring the same number. The mean over processes
            of the parameters' gradients, which DistributedDataParallel takes, is then the gradient
            of the joined batch's loss. Without processes it changes nothing.
    """

    def __init__(self, gather: bool = False) -> None:
        super().__init__()
        self.gather = gather

    @abstractmethod
    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        labels: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """The loss of one batch.

        Args:
            queries: (n, d) float, L2-normalised.
            references: (n, d) float, L2-normalised; row i shows the product of query i.
            labels: (n,) int64.
            features: (n, C) or (2n, C) float, what the embeddings are made of: of the queries, or
                of queries and references. Only CLCE reads them.

        Returns:
            Scalar, float32 or float64.
        """

    def _joined(self, queries: Tensor, references: Tensor, labels: Tensor) -> list[Tensor]:
        """The batch of all processes, or the own one."""
        check_batch(queries, labels)
        check_batch(references, labels)
        batch = [full_precision(queries), full_precision(references), labels]
        if not (self.gather and dist.is_available() and dist.is_initialized()):
            return batch
        return [_Gather.apply(part) for part in batch]  # type: ignore[no-untyped-call]

    def _views(self, queries: Tensor, references: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The multi-view batch of the supervised losses: (2n, d) embeddings and (2n,) labels."""
        queries, references, labels = self._joined(queries, references, labels)
        return torch.cat([queries, references]), torch.cat([labels, labels])


@MODELS.register_module()
class InfoNCELoss(ContrastiveLoss):
    """Symmetric InfoNCE with a learned temperature; see `info_nce`.

    `logit_scale` is learned and is ln(1/temperature). Before each use it is cut to ln(max_scale) in
    place, so that a step too far doesn't leave it where no gradient brings it back.

    Args:
        init_temperature: where the temperature starts.
        max_scale: the largest 1/temperature.
        transform: of the cosines, before the scale: none, sine, sigmoid or sigmoid_shifted.
        same: what other samples of the same label are: `mask` leaves them out, `multi` makes them
            positives.
        gather: see `ContrastiveLoss`.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def __init__(
        self,
        init_temperature: float = 0.07,
        max_scale: float = 100.0,
        transform: str = "none",
        same: Same = "mask",
        gather: bool = False,
    ) -> None:
        super().__init__(gather)
        check_temperature(init_temperature)
        check_info_nce(transform, same)
        if not 1 / init_temperature <= max_scale < math.inf:
            raise ConfigError(
                f"max_scale is {max_scale}, wanted at least 1/init_temperature = "
                f"{1 / init_temperature:g}",
                fix="raise max_scale or init_temperature",
            )
        self.max_scale = max_scale
        self.transform = transform
        self.same: Same = same
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / init_temperature)))

    def scale(self) -> Tensor:
        """1 / temperature, scalar, at most `max_scale`."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=math.log(self.max_scale))
        return full_precision(self.logit_scale).exp()

    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        labels: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """See `ContrastiveLoss.forward`."""
        queries, references, labels = self._joined(queries, references, labels)
        return info_nce(
            queries,
            references,
            self.scale(),
            labels,
            transform=self.transform,
            same=self.same,
        )


@MODELS.register_module()
class LaCViTLoss(ContrastiveLoss):
    """LaCViT's loss over queries and references as views; see `lacvit`.

    Args:
        temperature: divides the cosines.
        gather: see `ContrastiveLoss`.

    Raises:
        ConfigError: the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.1, gather: bool = False) -> None:
        super().__init__(gather)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        labels: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """See `ContrastiveLoss.forward`."""
        return lacvit(*self._views(queries, references, labels), self.temperature)


@MODELS.register_module()
class CLCELoss(ContrastiveLoss):
    """CLCE: LACLN over the views, and cross-entropy of a linear classifier that this module holds.

    With `gather`, cross-entropy stays with the process' own samples; the mean over processes makes
    it whole.

    Args:
        classes: of the labels, which are 0 to classes - 1.
        dim: C, the width of `features`.
        weight: lambda, LACLN's share.
        temperature: of LACLN.
        gather: see `ContrastiveLoss`.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        weight: float = 0.9,
        temperature: float = 0.5,
        gather: bool = False,
    ) -> None:
        super().__init__(gather)
        check_weight(weight)
        check_temperature(temperature)
        if classes < 2 or dim < 1:
            raise ConfigError(
                f"{classes} classes of {dim} features, wanted at least 2 of 1",
                fix="classes is the number of labels, dim the encoder's width",
            )
        self.weight = weight
        self.temperature = temperature
        self.classifier = nn.Linear(dim, classes)

    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        labels: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """See `ContrastiveLoss.forward`.

        Raises:
            ConfigError: features are missing or of the wrong shape, or a label has no class.
        """
        n, dim, classes = len(labels), self.classifier.in_features, self.classifier.out_features
        if features is None or features.shape not in ((n, dim), (2 * n, dim)):
            seen = "missing" if features is None else f"of shape {tuple(features.shape)}"
            raise ConfigError(
                f"CLCE's features are {seen}, wanted ({n}, {dim}) or ({2 * n}, {dim})",
                fix="pass the encoder's features of the queries, or of queries and references",
            )
        if n and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise ConfigError(
                f"labels go from {int(labels.min())} to {int(labels.max())}, but CLCE's "
                f"classifier has {classes} classes",
                fix="number the training products from 0 and set classes to how many there are",
            )
        with torch.autocast(features.device.type, enabled=False):
            logits = self.classifier(full_precision(features))
        return clce(
            *self._views(queries, references, labels),
            logits,
            labels.repeat(len(features) // n) if n else labels,
            weight=self.weight,
            temperature=self.temperature,
        )


@MODELS.register_module()
class SCLRHELoss(ContrastiveLoss):
    """SCL-RHE over queries and references as views; see `scl_rhe` for the settings.

    Args:
        temperature: divides the cosines.
        tau_plus: how many pairs with equal labels truly are equal.
        tau_minus: how many pairs with different labels truly differ.
        beta_positive: how much less easy positives count.
        beta_negative: how much more hard negatives count.
        q: the weight of the positives; None is their number.
        w: the weight of the negatives; None is their number.
        positives: `aim` (eq. 5.11) or `printed` (eq. 5.16).
        gather: see `ContrastiveLoss`.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        tau_plus: float = 0.935,
        tau_minus: float = 0.999,
        beta_positive: float = 1.0,
        beta_negative: float = 1.0,
        q: float | None = None,
        w: float | None = None,
        positives: Positives = "aim",
        gather: bool = False,
    ) -> None:
        super().__init__(gather)
        check_scl_rhe(
            temperature, tau_plus, tau_minus, beta_positive, beta_negative, q, w, positives
        )
        self.temperature = temperature
        self.tau_plus, self.tau_minus = tau_plus, tau_minus
        self.beta_positive, self.beta_negative = beta_positive, beta_negative
        self.q, self.w = q, w
        self.positives: Positives = positives

    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        labels: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """See `ContrastiveLoss.forward`."""
        return scl_rhe(
            *self._views(queries, references, labels),
            temperature=self.temperature,
            tau_plus=self.tau_plus,
            tau_minus=self.tau_minus,
            beta_positive=self.beta_positive,
            beta_negative=self.beta_negative,
            q=self.q,
            w=self.w,
            positives=self.positives,
        )
