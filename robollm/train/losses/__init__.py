"""Contrastive losses: InfoNCE, LaCViT, CLCE and SCL-RHE. The formulas are in docs/losses.md.

As functions of L2-normalised embeddings and integer labels, and as modules with one interface that
are registered in MMEngine's `MODELS` when this package is imported.
"""

from __future__ import annotations

from robollm.train.losses.contrastive import clce, info_nce, lacln, lacvit
from robollm.train.losses.modules import (
    CLCELoss,
    ContrastiveLoss,
    InfoNCELoss,
    LaCViTLoss,
    SCLRHELoss,
)
from robollm.train.losses.scl_rhe import pair_error_rates, scl_rhe
from robollm.train.losses.similarity import TRANSFORMS

__all__ = [
    "TRANSFORMS",
    "CLCELoss",
    "ContrastiveLoss",
    "InfoNCELoss",
    "LaCViTLoss",
    "SCLRHELoss",
    "clce",
    "info_nce",
    "lacln",
    "lacvit",
    "pair_error_rates",
    "scl_rhe",
]
