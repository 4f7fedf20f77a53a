"""ARMBench's figures for defects, per image, per induct and per sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from robollm.core.errors import ConfigError, TrainingError
from robollm.data.armbench_defects import LABELS
from robollm.metrics.defects import Calls


@METRICS.register_module()
class DefectMetric(BaseMetric):  # type: ignore[misc]
    """Figures from what `DefectHead.predict` gives.

    Names: `multi_pick_`, `package_defect_` or `combined_` (any defect against nominal), then
    `precision`, `recall`, `fpr` (of the most probable class), `auc`, `ap`, `recall@fpr0.01` and
    `recall@fpr0.05` (of the scores: the defect's probability, combined 1 - p(nominal)); and
    `mean_recall` (of the three classes, those that occur), `accuracy`. Without a prefix: per image.
    `induct_`: per induct; called: in any image that was shown; true: in any image of the induct,
    shown or not. Counts: `images` and `inducts`.

    If the samples are sequences: `sequence_`: of the pooled output against the induct's label;
    `frame_` instead of no prefix, and `frames` instead of `images`: of the images that were shown,
    a selection, so not to be compared with figures per image. nan: there is no such thing to count.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keep what is needed of a batch.

        Raises:
            TrainingError: for a probability that is not a number.
        """
        for one in data_samples:
            for found in (one["probabilities"], one["frame_probabilities"]):
                if not np.isfinite(found).all():
                    raise TrainingError(
                        f"the probabilities of induct {one['induct']}, images "
                        f"{', '.join(one['images'])}, are {np.asarray(found).tolist()}",
                        fix="lower the learning rate, or look at the weights and these images",
                    )
            self.results.append(
                {
                    "induct": one["induct"],
                    "label": one["label"],
                    "induct_labels": list(one["induct_labels"]),
                    "probabilities": np.asarray(one["probabilities"], np.float64),
                    "frame_labels": list(one["frame_labels"]),
                    "frames": np.asarray(one["frame_probabilities"], np.float64),
                    "sequence": bool(one["sequence"]),
                }
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute all figures.

        Raises:
            ConfigError: if there are no results.
        """
        if not results:
            raise ConfigError("no defect was predicted", fix="check the validation data")
        names = [r["induct"] for r in results for _ in r["frame_labels"]]
        ids, groups = np.unique(names, return_inverse=True)
        eye = np.eye(len(LABELS), dtype=bool)
        images = Calls.of_images(
            np.concatenate([r["frames"] for r in results]),
            eye[[label for r in results for label in r["frame_labels"]]],
        )
        whole = {r["induct"]: r["induct_labels"] for r in results}
        true = np.array([[c in whole[one] for c in range(len(LABELS))] for one in ids])
        inducts = images.any_of(np.asarray(groups, np.int64), true)
        sequence = any(r["sequence"] for r in results)
        out = {f"frame_{k}" if sequence else k: v for k, v in images.figures().items()}
        out |= {f"induct_{k}": v for k, v in inducts.figures().items()}
        if sequence:
            sequences = Calls.of_images(
                np.stack([r["probabilities"] for r in results]),
                eye[[r["label"] for r in results]],
            )
            out |= {f"sequence_{k}": v for k, v in sequences.figures().items()}
        out["frames" if sequence else "images"] = float(len(names))
        return {**out, "inducts": float(len(ids))}
