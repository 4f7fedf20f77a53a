"""Predictions as JSON: `predictions.json`, format version 1. docs/predict.md explains every key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.decide import IDENTIFIED, Identification
from robollm.core.errors import RobollmError
from robollm.core.masks import encode_rle
from robollm.runtime.bundle import Bundle
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.predict import (
    EVERYTHING,
    Predictor,
    Products,
    TotePrediction,
    ViewPrediction,
)

FORMAT, FORMAT_VERSION = "robollm-predictions", 1
NO_GALLERY = "no_gallery"
"""The decision on a product where there is nothing to compare with."""

Titles = Callable[[str], str]
Card = dict[str, Any]


def product_card(answer: Identification | None, title: Titles) -> Card:
    """The answer on a product.

    Args:
        answer: None: there is no gallery.
        title: product id -> its title.
    """
    if answer is None:
        return {
            "decision": NO_GALLERY,
            "product": None,
            "title": "",
            "probability": None,
            "reason": "no gallery was named, and the bundle has none",
            "candidates": [],
        }
    named = answer.decision == IDENTIFIED
    first, probability = answer.ranked[0]
    return {
        "decision": answer.decision,
        "product": first if named else None,
        "title": title(first) if named else "",
        "probability": _round(probability),
        "reason": answer.reason,
        "candidates": [
            {"product": pid, "title": title(pid), "probability": _round(p)}
            for pid, p in (answer.ranked if named else answer.ranked[1:])
        ],
    }


def tote_card(prediction: TotePrediction, labels: tuple[str, ...], title: Titles) -> list[Card]:
    """The instances of a tote, best first.

    Args:
        prediction: them.
        labels: names of the classes.
        title: product id -> its title.
    """
    found, cards = prediction.found, []
    for i in range(len(found)):
        x1, y1, x2, y2 = (float(v) for v in found.boxes[i])
        mask = found.masks[i].full(found.hw)
        answer = None if prediction.products is None else prediction.products[i]
        cards.append(
            {
                "id": i + 1,
                "label": labels[found.labels[i]],
                "score": _round(float(found.scores[i])),
                "box": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                "area": int(np.count_nonzero(mask)),
                "segmentation": {"size": list(found.hw), "counts": encode_rle(mask)},
                "product": product_card(answer, title),
            }
        )
    return cards


def view_card(prediction: ViewPrediction, title: Titles) -> Card:
    """The object on a picture of one object.

    Args:
        prediction: what is said of it.
        title: product id -> its title.
    """
    x1, y1, x2, y2 = prediction.window
    verdict, p = prediction.verdict, prediction.evidence.probabilities
    return {
        "view": prediction.view,
        "box": [x1, y1, x2 - x1, y2 - y1],
        "product": product_card(prediction.product, title),
        "verdict": {
            "decision": verdict.decision,
            "ranked": [{"class_id": c, "score": _round(s)} for c, s in verdict.ranked],
            "probabilities": None if p is None else {c: _round(v) for c, v in p.items()},
            "reason": prediction.evidence.reason,
        },
    }


def picture_card(file: Path, number: int, hw: tuple[int, int], ms: Mapping[str, float]) -> Card:
    """What is said of every picture that worked.

    Args:
        file: the picture.
        number: its place in the list, from 1.
        hw: (height, width), px, as seen.
        ms: stage -> milliseconds.
    """
    return {
        "number": number,
        "file": str(file),
        "size": [hw[1], hw[0]],
        "error": None,
        "ms": {k: round(v, 2) for k, v in ms.items()},
    }


def failed_card(word: str, number: int | None, error: RobollmError) -> Card:
    """What is said of a picture that did not work.

    Args:
        word: the picture, or a word that stands for none.
        number: its place in the list, from 1; None for such a word.
        error: why.
    """
    said = {"kind": getattr(error, "kind", "inference"), "what": error.what, "fix": error.fix}
    return {"number": number, "file": word, "size": None, "error": said, "ms": {}}


def bundle_card(bundle: Bundle) -> Card:
    """Which models were used."""
    return {
        "name": bundle.name,
        "version": bundle.version,
        "title": bundle.title,
        "sha256": bundle.sha256,
        "status": bundle.status,
    }


def gallery_card(products: Products | None) -> Card | None:
    """What was compared with; None: nothing."""
    if products is None:
        return None
    gallery = products.catalogue.gallery
    return {
        "folder": str(products.folder),
        "generation": gallery.generation,
        "container": None if products.container == EVERYTHING else products.container,
        "compared_with": products.compared,
        "without_reference": list(products.bare),
        "thresholds": products.thresholds,
        "plan": gallery.plan,
    }


def conditions_card(perceiver: Perceiver, machine: Mapping[str, Any], load_s: float) -> Card:
    """What milliseconds hold for.

    Args:
        perceiver: the bundle in use.
        machine: see `measure.conditions`.
        load_s: seconds from nothing to models that have run once, at every common size.
    """
    return {
        "precision": perceiver.precision,
        "provider": perceiver.config.provider,
        "threads": perceiver.config.threads,
        "crop_features": perceiver.config.crop_features,
        "where": perceiver.where,
        "load_s": round(load_s, 2),
        "machine": dict(machine),
    }


def whole_card(
    kind: str,
    predictor: Predictor,
    pictures: Sequence[Card],
    left_out: Sequence[str],
    conditions: Card,
) -> Card:
    """All of `predictions.json`.

    Args:
        kind: "tote" or "view".
        predictor: what was used.
        pictures: a card each, of those that failed, too.
        left_out: what else the person's words meant, and was not looked at.
        conditions: see `conditions_card`.
    """
    bundle = predictor.perceiver.bundle
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "untrained": not bundle.trained,
        "bundle": bundle_card(bundle),
        "gallery": gallery_card(predictor.products),
        "settings": {
            "score_min": predictor.score_min,
            "max_instances": predictor.max_instances,
            "defect_thresholds": predictor.defect_thresholds,
        },
        "conditions": conditions,
        "pictures": list(pictures),
        "failed": sum(p["error"] is not None for p in pictures),
        "left_out": list(left_out),
    }


def _round(value: float) -> float:
    return round(float(value), 6)
