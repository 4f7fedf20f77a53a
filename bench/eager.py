"""The baseline: MMDetection's pipeline and our heads in torch eager, as a user would write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from robollm.core.errors import InferenceError
from robollm.core.letterbox import Letterbox
from robollm.export.collect import Collected
from robollm.export.reference import TorchModels
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region, paste_mask, to_canvas
from robollm.runtime.workload import mean_found, windows

Rgb = NDArray[np.uint8]
MOST = {"box_px": 0.05, "score": 1e-4, "embedding": 1e-4, "probability": 1e-4}
"""How far the fp32 runtime may be from torch; boxes in source px."""
LEAST_IOU = {True: 0.99, False: 0.95}
"""Of two masks, by whether the model was trained: random weights give probabilities around the
threshold, where the last bits of a sum decide pixels."""


class Eager:
    """A tote to masks by MMDetection's `test_step`, then crops in one batch, encoded once.

    The picture is resized by MMDetection's own transform, normalised, padded, and its masks pasted
    by MMDetection; the same share of the work as in `robollm.runtime.workload.Workload`.

    Args:
        parts: the weights.
        pictures: (H, W, 3) uint8, RGB.
        crops: how many.
        bf16: under torch's autocast.
    """

    def __init__(
        self,
        parts: Collected,
        pictures: Sequence[Rgb],
        crops: int = 10,
        *,
        bf16: bool = False,
    ) -> None:
        from mmdet.datasets.transforms import PackDetInputs, Resize

        self._parts, self._pictures, self._crops, self._bf16 = parts, pictures, crops, bf16
        h, w = parts.tote.hw
        self._resize = Resize(scale=(w, h), keep_ratio=True)
        self._pack = PackDetInputs(meta_keys=("img_shape", "ori_shape", "scale_factor", "img_id"))
        self.found: dict[int, int] = {}

    def __call__(self, turn: int) -> None:
        """Run once, on the round's picture."""
        rgb = self._pictures[turn % len(self._pictures)]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            boxes = self._segment(rgb)
            if self._crops:
                self._look(rgb, boxes)
        self.found[turn] = len(boxes)

    def instances(self) -> float:
        """Found per picture, the mean over the timed rounds."""
        return mean_found(self.found)

    def _segment(self, rgb: Rgb) -> NDArray[np.float32]:
        given = {"img": rgb, "img_id": 0, "img_shape": rgb.shape[:2], "ori_shape": rgb.shape[:2]}
        packed = self._pack(self._resize(given))
        batch = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
        (sample,) = self._parts.detector.test_step(batch)
        found = sample.pred_instances
        if len(found.masks) != len(found.bboxes):
            raise RuntimeError("MMDetection gave boxes without masks")
        boxes: NDArray[np.float32] = found.bboxes.float().numpy()
        return boxes

    def _look(self, rgb: Rgb, boxes: NDArray[np.float32]) -> None:
        hw = self._parts.crop.hw
        some = []
        for box in windows(boxes, (rgb.shape[0], rgb.shape[1]), self._crops):
            x1, y1 = (max(0, int(np.floor(v))) for v in box[:2])
            x2, y2 = (
                max(low + 1, int(np.ceil(v))) for low, v in zip((x1, y1), box[2:], strict=True)
            )
            some.append(cv2.resize(rgb[y1:y2, x1:x2], hw[::-1]))
        images = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2)
        crops = (images.float() - 127.5) / 127.5
        features = self._parts.encoder(crops)
        self._parts.identification.embed_references(lambda _: features, crops)
        inputs = {"images": crops[:, None], "present": torch.ones(len(crops), 1, dtype=torch.bool)}
        whole, _ = self._parts.defects._both(lambda _: features, inputs)
        whole.softmax(dim=1).numpy()


def equal_outputs(
    parts: Collected, perceiver: Perceiver, pictures: Sequence[Rgb]
) -> dict[str, Any]:
    """How far the fp32 runtime is from torch on the same pictures, at the last output.

    Returns:
        Instances of both, largest difference of boxes (source px), scores, embeddings and defect
        probabilities, and the smallest IoU of two masks.
    """
    models, bundle = TorchModels(parts), perceiver.bundle
    apart: dict[str, list[float]] = {k: [0.0] for k in MOST}
    least, counts = 1.0, []
    for i, rgb in enumerate(pictures):
        frame = frame_of(rgb, 10_000 + i)
        ours = perceiver.segment(frame, score_min=0.0)
        canvas, box = to_canvas(rgb, "rgb", bundle.tote, bundle)
        theirs = models.segment(canvas[None])
        counts.append((len(ours), len(theirs.boxes)))
        source = box.to_source(theirs.boxes)
        n = min(counts[-1])
        if n:
            apart["box_px"].append(float(np.abs(ours.boxes[:n] - source[:n]).max()))
            apart["score"].append(float(np.abs(ours.scores[:n] - theirs.scores[:n]).max()))
            least = min(
                least, *(iou(ours, theirs.masks[k], source[k], k, box, bundle) for k in range(n))
            )
        regions = [Region(frame, w) for w in windows(ours.boxes, frame.hw, 10)]
        vectors, judged = perceiver.look(regions)
        crops = np.stack([to_canvas(r.pixels, "rgb", bundle.crop, bundle)[0] for r in regions])
        apart["embedding"].append(float(np.abs(models.embed(crops) - vectors).max()))
        logits = models.inspect(crops) / bundle.thresholds.defect_temperature
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        got = np.array([[p[name] for name in bundle.defect_labels] for p in judged])
        apart["probability"].append(float(np.abs(got - share).max()))
    return {
        "pictures": len(counts),
        "instances": [sum(c[0] for c in counts), sum(c[1] for c in counts)],
        **{f"max_{k}": float(f"{np.max(v):.1e}") for k, v in apart.items()},
        "min_mask_iou": round(least, 5),
    }


def refuse_unequal(equal: dict[str, Any], *, trained: bool = True) -> None:
    """Stop before anything is timed that isn't the same model.

    Args:
        equal: of `equal_outputs`.
        trained: whether the weights are.

    Raises:
        InferenceError: the runtime finds other instances than torch, or none, or a figure is
            further away than `MOST` and `LEAST_IOU` allow, or not a number.
    """
    ours, torchs = equal["instances"]
    odd = [] if ours == torchs > 0 else [f"{ours} instances, torch has {torchs}"]
    odd += [
        f"{k} {equal[f'max_{k}']:g}, want <= {most:g}"
        for k, most in MOST.items()
        if not equal[f"max_{k}"] <= most
    ]
    if not equal["min_mask_iou"] >= LEAST_IOU[trained]:
        odd.append(f"mask IoU {equal['min_mask_iou']:g}, want >= {LEAST_IOU[trained]:g}")
    if odd:
        raise InferenceError(
            f"the fp32 runtime is not equal to torch on {equal['pictures']} pictures: "
            + "; ".join(odd),
            fix="compare them graph by graph: `robollm export` on the run says which one differs",
        )


def frame_of(rgb: Rgb, stamp: int) -> Any:
    """A frame that nothing remembers."""
    from robollm.core.frame import Frame

    return Frame(rgb, "rgb", stamp, stream="check")


def iou(
    ours: Any, mask28: NDArray[np.float32], box: Any, k: int, fit: Letterbox, bundle: Any
) -> float:
    """Of our mask and MMDetection's 28 x 28 probabilities, pasted the same way."""
    limit = bundle.thresholds.mask_min
    theirs = paste_mask(mask28, box.astype(np.float32), fit.src_hw, limit).full(fit.src_hw)
    mine = ours.masks[k].full(fit.src_hw)
    union = int((mine | theirs).sum())
    return int((mine & theirs).sum()) / union if union else 1.0
