"""The weights of a bundle in torch eager: what every graph is compared with, and timed against."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robollm.export.collect import Collected
from robollm.train.adapters.multiway import switch
from robollm.train.features import Features

Array = NDArray[np.float32]


class Found(NamedTuple):
    """Instances of one tote, best first.

    Attributes:
        boxes: (n, 4) xyxy, canvas px.
        scores: (n,).
        labels: (n,) int64.
        masks: (n, 28, 28) probabilities over the box.
    """

    boxes: Array
    scores: Array
    labels: NDArray[np.int64]
    masks: Array


class Candidates(NamedTuple):
    """What the graph `proposals` gives.

    Attributes:
        boxes: (M, 4) xyxy, canvas px.
        scores: (M,); negative: never taken.
        levels: (M,) number of the pyramid's level.
    """

    boxes: Array
    scores: Array
    levels: Array


class TorchModels:
    """All tasks of a `Collected`, NumPy in and out, on torch's current number of threads.

    Images are (N, 3, H, W) float32, RGB, normalised, as `robollm.runtime.pixels.to_canvas` makes
    them. Adapters are switched on per task.

    Args:
        parts: from `collect`.
    """

    def __init__(self, parts: Collected) -> None:
        self.parts = parts

    @torch.inference_mode()
    def encode(self, images: Array, task: str) -> tuple[Array, Array]:
        """The encoder: map (N, C, H/P, W/P) and cls (N, C)."""
        found = self._encoder(task)(torch.from_numpy(images))
        return found.map.numpy(), found.cls.numpy()

    @torch.inference_mode()
    def segment(self, canvas: Array) -> Found:
        """Find the instances of one tote, by MMDetection's own predict path.

        Args:
            canvas: (1, 3, H, W), of the bundle's tote geometry.
        """
        with self._on("segmentation"), _quiet():
            levels = self.detector.extract_feat(torch.from_numpy(canvas))
            proposals = self.detector.rpn_head.predict(levels, [self._sample()], rescale=False)
            head = self.detector.roi_head
            (found,) = head.predict_bbox(
                levels, [self._meta()], proposals, head.test_cfg, rescale=False
            )
            masks = self._masks(levels, found.bboxes, found.labels)
        boxes, scores, labels = (p.numpy() for p in (found.bboxes, found.scores, found.labels))
        return Found(boxes, scores, labels, masks.numpy())

    @torch.inference_mode()
    def embed(self, crops: Array) -> Array:
        """Embed pictures one by one, as references are: (N, D), unit length."""
        head = self.parts.identification
        out = head.embed_references(self._encoder(head.task), torch.from_numpy(crops))
        return np.asarray(out.numpy())

    @torch.inference_mode()
    def pooled(self, crops: Array) -> Array:
        """What identification makes of pictures before its projection: (N, C)."""
        head = self.parts.identification
        found = self._encoder(head.task)(torch.from_numpy(crops))
        return np.asarray(head._features(found).numpy())

    @torch.inference_mode()
    def normed(self, crops: Array) -> Array:
        """What the defect head makes of pictures before it classifies: (N, C)."""
        head = self.parts.defects
        found = self._encoder(head.task)(torch.from_numpy(crops))
        return np.asarray(head.norm(found.map.mean(dim=(2, 3))).numpy())

    @torch.inference_mode()
    def fuse(self, features: Array, present: NDArray[np.bool_]) -> Array:
        """Embed picks of several views.

        Args:
            features: (N, V, C), as the graph `identification` gives them.
            present: (N, V), at least one in a row.

        Returns:
            (N, D), unit length.
        """
        head, there = self.parts.identification, torch.from_numpy(present)
        out = head._unit(head._fuse(torch.from_numpy(features)[there], there))
        return np.asarray(out.numpy())

    @torch.inference_mode()
    def inspect(self, crops: Array) -> Array:
        """Logits (N, K) of pictures one by one, without a reference."""
        return self.inspect_sequences(crops[:, None], np.ones((len(crops), 1), np.bool_))

    @torch.inference_mode()
    def inspect_sequences(
        self,
        frames: Array,
        present: NDArray[np.bool_],
        reference: Array | None = None,
        has_reference: NDArray[np.bool_] | None = None,
    ) -> Array:
        """Logits (N, K) of sequences.

        Args:
            frames: (N, T, 3, S, S).
            present: (N, T), at least one in a row.
            reference: (N, 3, S, S), for a head that compares with it.
            has_reference: (N,).
        """
        n = len(frames)
        if reference is None or has_reference is None:
            reference, has_reference = np.zeros_like(frames[:, 0]), np.zeros(n, np.bool_)
        given = {"images": frames, "present": present, "reference": reference,
                 "has_reference": has_reference}  # fmt: skip
        head = self.parts.defects
        inputs = {k: torch.from_numpy(v) for k, v in given.items()}
        whole, _ = head._both(self._encoder(head.task), inputs)
        return np.asarray(whole.numpy())

    @property
    def detector(self) -> Any:
        """MMDetection's model; its backbone is the shared encoder."""
        return self.parts.detector

    @torch.inference_mode()
    def levels(self, grid: Array) -> list[Array]:
        """The pyramid of a map (1, C, h, w): all levels, finest first."""
        return [x.numpy() for x in self.detector.neck((torch.from_numpy(grid),))]

    @torch.inference_mode()
    def proposals(self, levels: Sequence[Array]) -> tuple[Array, Array]:
        """What MMDetection's RPN keeps: boxes (n, 4), canvas px, and scores (n,)."""
        with _quiet():
            (found,) = self.detector.rpn_head.predict(
                _tensors(levels), [self._sample()], rescale=False
            )
        return found.bboxes.numpy(), found.scores.numpy()

    @torch.inference_mode()
    def anchors(self, levels: Sequence[Array]) -> list[tuple[Array, Array]]:
        """What MMDetection's RPN makes of every anchor, before any is left out.

        Returns:
            For each level boxes (a, 4), canvas px, inside the canvas, and scores (a,).
        """
        head = self.detector.rpn_head
        tensors = _tensors(levels)
        priors = head.prior_generator.grid_priors([x.shape[2:] for x in tensors], device="cpu")
        out = []
        for anchors, score, delta in zip(priors, *head(tensors), strict=True):
            moves = delta[0].permute(1, 2, 0).reshape(-1, 4)
            boxes = head.bbox_coder.decode(anchors, moves, max_shape=self.parts.tote.hw)
            rank = score[0].permute(1, 2, 0).reshape(-1).sigmoid()
            out.append((boxes.numpy(), rank.numpy()))
        return out

    @torch.inference_mode()
    def classify(
        self, levels: Sequence[Array], candidates: Candidates, count: int
    ) -> tuple[Array, Array]:
        """The box stages on given candidates, before the last NMS.

        Args:
            levels: see `levels`.
            candidates: they suppress each other on their own level only.
            count: how many are kept; 0: all, and none suppresses another.

        Returns:
            boxes (n, K or 1, 4) and scores (n, K) of the n candidates that were kept.
        """
        from mmcv.ops import batched_nms
        from mmengine.structures import InstanceData

        good = candidates.scores >= 0
        boxes, rank, level = (torch.from_numpy(x[good]) for x in candidates)
        with _quiet():
            if count and len(boxes):
                _, kept = batched_nms(boxes, rank, level, self.detector.rpn_head.test_cfg.nms)
                boxes = boxes[kept[:count]]
            (found,) = self.detector.roi_head.predict_bbox(
                _tensors(levels), [self._meta()], [InstanceData(bboxes=boxes)], None, rescale=False
            )
        out = found.scores[:, :-1]
        return found.bboxes.reshape(len(out), -1, 4).numpy(), out.numpy()

    @torch.inference_mode()
    def masks(self, levels: Sequence[Array], boxes: Array, labels: NDArray[np.int64]) -> Array:
        """Mask probabilities (n, 28, 28) of given boxes (n, 4), canvas px."""
        with _quiet():
            found = self._masks(_tensors(levels), torch.from_numpy(boxes), torch.from_numpy(labels))
        return np.asarray(found.numpy())

    @torch.inference_mode()
    def regions(self, grid: Array, boxes: Array) -> Array:
        """RoIAlign of a map (1, C, h, w) in boxes (n, 4), canvas px: (n, C, 7, 7)."""
        from mmcv.ops import roi_align

        rois = torch.cat([torch.zeros(len(boxes), 1), torch.from_numpy(boxes)], dim=1)
        scale = 1 / self.parts.patch
        out = roi_align(torch.from_numpy(grid), rois, 7, scale, 0, "avg", True)
        return np.asarray(out.numpy())

    def _masks(self, levels: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """MMDetection's mask probabilities, caught before they are pasted into the picture."""
        from mmengine.structures import InstanceData

        head = self.detector.roi_head
        caught: list[Tensor] = []

        def catch(mask_preds: Any, results_list: Any, **_: Any) -> Any:
            caught.extend(mask_preds)
            return results_list

        last = head.mask_head[-1]
        last.predict_by_feat = catch
        try:
            head.predict_mask(
                levels, [self._meta()], [InstanceData(bboxes=boxes, labels=labels)], rescale=False
            )
        finally:
            del last.predict_by_feat  # the class's own comes back
        if not caught:
            return torch.zeros(0, 28, 28)
        every = caught[0]
        if every.shape[1] == 1:
            return every[:, 0]
        return every[torch.arange(len(every)), labels]

    def _encoder(self, task: str) -> Callable[[Tensor], Features]:
        def encode(images: Tensor) -> Features:
            with self._on(task):
                found: Features = self.parts.encoder(images)
            return found

        return encode

    @contextmanager
    def _on(self, task: str) -> Iterator[None]:
        with switch(self.parts.encoder, task if task in self.parts.adapters else None):
            yield

    def _meta(self) -> dict[str, Any]:
        hw = self.parts.tote.hw
        return {"img_shape": hw, "ori_shape": hw, "pad_shape": hw, "batch_input_shape": hw,
                "scale_factor": (1.0, 1.0)}  # fmt: skip

    def _sample(self) -> Any:
        from mmdet.structures import DetDataSample

        return DetDataSample(metainfo=self._meta())


def _tensors(values: Sequence[Array]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(v) for v in values)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # mmdet 3.3 copies a tensor in a way that torch 2.13 warns of.
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        yield
