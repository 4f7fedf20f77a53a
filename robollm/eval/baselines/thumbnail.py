"""How far does a picture of 16 x 16 pixels get? The nearest thumbnail names the product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robollm.data.shortcuts import thumbnail
from robollm.eval.baselines.features import FeatureBaseline


def make(options: Mapping[str, Any]) -> FeatureBaseline:
    """The predictor `thumbnail`; options: see `TrainingImages.of`."""
    return FeatureBaseline("thumbnail", thumbnail, 768, version="2", options=options)
