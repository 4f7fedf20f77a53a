"""RoIAlign and NMS against slow loops in float64, with mmcv's meaning, and through mmcv itself."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from robollm.train.detector import ops, roi_align

ops.prepare()
from mmcv.ops import RoIAlign, batched_nms, nms, soft_nms  # noqa: E402


def _at(plane: np.ndarray, y: float, x: float) -> float:
    """One bilinear sample: 0 more than a cell outside, the edge's value within that."""
    h, w = plane.shape
    if y < -1 or y > h or x < -1 or x > w:
        return 0.0
    y, x = min(max(y, 0.0), h - 1.0), min(max(x, 0.0), w - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
    fy, fx = y - y0, x - x0
    top = plane[y0, x0] * (1 - fx) + plane[y0, x1] * fx
    return top * (1 - fy) + (plane[y1, x0] * (1 - fx) + plane[y1, x1] * fx) * fy


def slow_roi_align(features, rois, out, scale, sampling, aligned):
    features, rois = features.double().numpy(), rois.double().numpy()
    result = np.zeros((len(rois), features.shape[1], *out))
    for k, (b, *box) in enumerate(rois):
        x1, y1, x2, y2 = (v * scale - (0.5 if aligned else 0) for v in box)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bh, bw = height / out[0], width / out[1]
        ny = sampling if sampling > 0 else math.ceil(bh)
        nx = sampling if sampling > 0 else math.ceil(bw)
        for c in range(features.shape[1]):
            for i in range(out[0]):
                for j in range(out[1]):
                    samples = [
                        _at(
                            features[int(b), c],
                            y1 + i * bh + (iy + 0.5) * bh / ny,
                            x1 + j * bw + (ix + 0.5) * bw / nx,
                        )
                        for iy in range(ny)
                        for ix in range(nx)
                    ]
                    result[k, c, i, j] = sum(samples) / max(len(samples), 1)
    return torch.from_numpy(result)


ROIS = torch.tensor(
    [
        [0, 3.0, 2.0, 40.0, 30.0],
        [1, 0.0, 0.0, 63.0, 47.0],  # the whole image
        [1, 10.2, 11.7, 12.9, 13.1],  # smaller than a cell
        [0, 20.0, 20.0, 20.0, 20.0],  # empty
        [0, 5.0, 20.0, 5.0, 40.0],  # a line
        [1, -30.0, -20.0, 15.0, 90.0],  # over three borders
        [0, 200.0, 200.0, 260.0, 230.0],  # outside of everything
        [0, 56.0, 40.0, 75.0, 60.0],  # over the last cells
        [1, 0.0, 44.0, 64.0, 47.0],  # flat: RoIs have their own number of samples per axis
    ]
)


def features(**kind):
    return torch.randn(2, 2, 12, 16, generator=torch.Generator().manual_seed(1)).to(**kind)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(
    ("out", "sampling"), [((7, 7), 0), ((5, 3), 2), ((2, 3), 0), ((2, 3), 1), ((2, 3), 3)]
)
def test_roi_align_is_the_loop(out, sampling, aligned):
    x = features(dtype=torch.float64)
    layer = RoIAlign(out, 0.25, sampling, aligned=aligned)
    want = slow_roi_align(x, ROIS, out, 0.25, sampling, aligned)
    torch.testing.assert_close(layer(x, ROIS.double()), want, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x.float(), ROIS), want.float(), rtol=0, atol=2e-5)


def test_wide_bins_take_rows_first_and_give_the_same():
    x = torch.rand(3, 1, 40, 50, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 2, 49, 39], [2, 0, 0, 50, 12]], dtype=torch.float64)
    how = roi_align.plan(rois, (3, 40, 50), (4, 4), scale=1.0, sampling=0, aligned=True)
    assert how.in_parts(channels=1)
    narrow = roi_align.plan(rois / 8, (3, 40, 50), (4, 4), scale=1.0, sampling=0, aligned=True)
    assert not narrow.in_parts(channels=256)
    got = RoIAlign(4, 1.0, 0)(x, rois)
    torch.testing.assert_close(got.detach(), slow_roi_align(x.detach(), rois, (4, 4), 1, 0, True))
    joint = how.joint().times(x.detach().permute(0, 2, 3, 1).reshape(-1, 1))
    torch.testing.assert_close(got.detach().flatten(), joint.flatten())
    (grad,) = torch.autograd.grad((got * torch.arange(32).view_as(got)).sum(), x)
    back = how.joint().transposed(3 * 40 * 50).times(torch.arange(32.0).double()[:, None])
    torch.testing.assert_close(grad.flatten(), back.flatten())


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_the_gradient_is_right(sampling, scale):
    x = features(dtype=torch.float64)[:, :1, :6, :7].clone().requires_grad_()
    layer = RoIAlign((2, 3), scale, sampling)
    assert torch.autograd.gradcheck(lambda m: layer(m, ROIS.double()), (x,))


@pytest.mark.parametrize("sampling", [0, 2])
def test_a_map_with_other_strides_gives_the_same_as_its_copy(sampling):
    # mmcv's compiled CPU operator reads raw memory: this was silently wrong there.
    permuted = features().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not permuted.is_contiguous()
    layer = RoIAlign(7, 0.25, sampling)
    maps = [m.detach().requires_grad_() for m in (permuted, permuted.contiguous())]
    out = [layer(m, ROIS) for m in maps]
    assert torch.equal(*out)
    weight = torch.randn(out[0].shape).permute(0, 1, 3, 2)
    grads = [torch.autograd.grad((o * weight).sum(), m)[0] for o, m in zip(out, maps, strict=True)]
    assert torch.equal(*grads)


def test_no_rois_give_nothing_and_a_zero_gradient():
    x = features().requires_grad_()
    out = RoIAlign(7, 0.25, 0)(x, torch.zeros(0, 5))
    assert out.shape == (0, 2, 7, 7)
    out.sum().backward()
    assert not x.grad.any()


def test_half_precision_is_computed_in_float32():
    x = features(dtype=torch.bfloat16)
    out = RoIAlign(7, 0.25, 2)(x, ROIS.bfloat16())
    want = RoIAlign(7, 0.25, 2)(x.float(), ROIS.bfloat16().float())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, want.bfloat16())


@pytest.mark.parametrize(
    "roi",
    [[0, 5.0, 0, 1, 9], [0, math.nan, 0, 1, 9], [2, 0.0, 0, 1, 9], [-1, 0.0, 0, 1, 9]],
    ids=["turned round", "not a number", "of no image", "of a negative image"],
)
def test_a_roi_without_meaning_is_refused(roi):
    with pytest.raises(ValueError, match="RoI"):
        RoIAlign(7, 0.25, 2)(features(), torch.tensor([roi]))


def test_maximum_pooling_is_refused():
    with pytest.raises(NotImplementedError, match="avg"):
        RoIAlign(7, 0.25, 2, pool_mode="max")(features(), ROIS)


def slow_nms(boxes, scores, iou, offset=0):
    order = sorted(range(len(boxes)), key=lambda i: -float(scores[i]))
    kept: list[int] = []
    for i in order:
        a = boxes[i].tolist()
        for j in kept:
            b = boxes[j].tolist()
            w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
            h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
            both = sum((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)) - w * h
            if both > 0 and w * h / both > iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("iou", [0.0, 0.5, 0.9])
def test_nms_is_the_loop(iou, offset, block, monkeypatch):
    monkeypatch.setattr(roi_align, "_NMS_BLOCK", block)
    rng = torch.Generator().manual_seed(3)
    low = torch.randint(0, 40, (120, 2), generator=rng)
    boxes = torch.cat([low, low + torch.randint(0, 30, (120, 2), generator=rng)], 1).double()
    scores = torch.randint(0, 20, (120,), generator=rng).double()  # ties keep their order
    dets, kept = nms(boxes, scores, iou, offset)
    assert kept.tolist() == slow_nms(boxes, scores, iou, offset)
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_nms_of_nothing_is_nothing():
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert kept.dtype == torch.int64
    assert not len(kept)


def test_nms_by_class_leaves_other_classes_alone():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    _, kept = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.5})
    assert kept.tolist() == [0, 1]


def test_what_is_not_built_says_so_when_it_is_called():
    with pytest.raises(NotImplementedError, match="softnms"):
        soft_nms(torch.rand(2, 4), torch.rand(2), 0.5)


def test_a_full_mmcv_is_used_as_it_is(monkeypatch):
    class Compiled:
        __spec__ = object()

    monkeypatch.setitem(sys.modules, "mmcv._ext", Compiled)
    assert not ops.install()
    assert sys.modules["mmcv._ext"] is Compiled


def test_installing_twice_changes_nothing():
    before = sys.modules["mmcv._ext"]
    assert ops.install()
    assert sys.modules["mmcv._ext"] is before
