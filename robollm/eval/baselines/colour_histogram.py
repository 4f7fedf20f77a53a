"""How far do colours get? Histograms for products, mean colour and area for defects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robollm.data.shortcuts import colour_and_area, hsv_histogram
from robollm.eval.baselines.features import FeatureBaseline


def make(options: Mapping[str, Any]) -> FeatureBaseline:
    """The predictor `colour-histogram`; options: see `TrainingImages.of`."""
    return FeatureBaseline(
        "colour-histogram",
        hsv_histogram,
        192,
        version="2",
        options=options,
        defects=colour_and_area,
        learns="linear discriminants of mean colour, its spread, and area",
    )
