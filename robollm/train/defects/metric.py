"""ARMBench's figures for defects, per image, per induct and per sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, TrainingError
from robollm.data.armbench_defects import LABELS, NOMINAL
from robollm.train.defects.scores import auc, rates, recall_at

NORMAL = LABELS.index(NOMINAL)
DEFECTS = tuple(c for c in range(len(LABELS)) if c != NORMAL)
FPRS = (0.01, 0.05)


class Calls:
    """What was said about N things, and what is so, for each defect and for any defect.

    Args:
        said: (N, 3) bool: which classes they were called; nominal is "no defect".
        true: (N, 3) bool.
        scores: (N, 3) float; nominal's column is not used.
        combined: (N,) float, score of "any defect".
    """

    def __init__(
        self,
        said: NDArray[np.bool_],
        true: NDArray[np.bool_],
        scores: NDArray[np.float64],
        combined: NDArray[np.float64],
    ) -> None:
        self._said, self._true, self._scores, self._combined = said, true, scores, combined

    @classmethod
    def of_images(cls, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Calls:
        """From (N, 3) probabilities and (N,) labels: called what is most probable."""
        eye = np.eye(len(LABELS), dtype=bool)
        said = eye[probabilities.argmax(axis=1)]
        return cls(said, eye[labels], probabilities, 1 - probabilities[:, NORMAL])

    def any_of(self, groups: NDArray[np.int64], true: NDArray[np.bool_]) -> Calls:
        """Of groups: a defect is called if it is in any member; scores: the highest.

        Args:
            groups: (N,) numbers from 0, each of them there.
            true: (M, 3) bool, the labels in each group, of more than its members here.
        """
        count = len(true)
        said, true = np.zeros((count, len(LABELS)), bool), true.copy()
        scores = np.full((count, len(LABELS)), -np.inf)
        combined = np.full(count, -np.inf)
        np.logical_or.at(said, groups, self._said)
        np.maximum.at(scores, groups, self._scores)
        np.maximum.at(combined, groups, self._combined)
        for calls in (said, true):
            calls[:, NORMAL] = ~calls[:, list(DEFECTS)].any(axis=1)
        return Calls(said, true, scores, combined)

    def figures(self) -> dict[str, float]:
        """Precision, recall, FPR, AUC and recall at `FPRS`, by defect and combined."""
        out: dict[str, float] = {}
        columns = [
            (LABELS[c], self._said[:, c], self._true[:, c], self._scores[:, c]) for c in DEFECTS
        ]
        defect, is_defect = ~self._said[:, NORMAL], ~self._true[:, NORMAL]
        columns.append(("combined", defect, is_defect, self._combined))
        for name, said, true, scores in columns:
            found = rates(said, true)
            for key, value in found._asdict().items():
                out[f"{name}_{key}"] = value
            out[f"{name}_auc"] = auc(scores, true)
            for fpr in FPRS:
                out[f"{name}_recall@fpr{fpr:g}"] = recall_at(scores, true, fpr)
        recalls = [rates(self._said[:, c], self._true[:, c]).recall for c in range(len(LABELS))]
        out["mean_recall"] = float(np.mean([r for r in recalls if r == r]))
        out["accuracy"] = float((self._said == self._true).all(axis=1).mean())
        return out


@METRICS.register_module()
class DefectMetric(BaseMetric):  # type: ignore[misc]
    """Figures from what `DefectHead.predict` gives.

    Names: `multi_pick_`, `package_defect_` or `combined_` (any defect against nominal), then
    `precision`, `recall`, `fpr` (of the most probable class), `auc`, `recall@fpr0.01` and
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
        images = Calls.of_images(
            np.concatenate([r["frames"] for r in results]),
            np.array([label for r in results for label in r["frame_labels"]], np.int64),
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
                np.array([r["label"] for r in results], np.int64),
            )
            out |= {f"sequence_{k}": v for k, v in sequences.figures().items()}
        out["frames" if sequence else "images"] = float(len(names))
        return {**out, "inducts": float(len(ids))}
