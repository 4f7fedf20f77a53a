"""RoIAlign and non-maximum suppression in plain torch, with the meaning that mmcv gives them.

RoIAlign is linear in the feature map, and separable: the average over a bin's sampling points of
bilinear weights is a product of one weight per row and one per column. So a call is one sparse
matrix, bins x cells, in which neighbouring sampling points share cells. `F.embedding_bag` applies
such a matrix without writing out what it gathers; the gradient is the transposed matrix. Where a
bin is wide and its channels are few (mask targets), rows and columns are done one after the other,
which takes fewer entries; both ways give the same sums.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_NMS_BLOCK = 512
_ENTRY_COST = 200  # to lay out one entry of a matrix, in multiplications; measured


class Sparse(NamedTuple):
    """A sparse matrix in rows.

    Attributes:
        counts: (R,) int64, entries of each row.
        cols: (E,) int64, column of each entry, row by row.
        values: (E,) float.
    """

    counts: Tensor
    cols: Tensor
    values: Tensor

    @property
    def starts(self) -> Tensor:
        """(R,) int64, where each row's entries begin."""
        return self.counts.cumsum(0) - self.counts

    def times(self, table: Tensor) -> Tensor:
        """The product with (columns, C): (R, C)."""
        if not len(self.cols):
            return table.new_zeros(len(self.counts), table.shape[1])
        return F.embedding_bag(
            self.cols, table, self.starts, mode="sum", per_sample_weights=self.values
        )

    def transposed(self, n_cols: int) -> Sparse:
        """The transpose of a matrix of `n_cols` columns."""
        order = torch.argsort(self.cols, stable=True)
        rows = torch.repeat_interleave(self.counts)
        counts = torch.bincount(self.cols, minlength=n_cols)
        return Sparse(counts, rows[order], self.values[order])


def _axis(start: Tensor, length: Tensor, bins: int, samples: Tensor, size: int) -> Sparse:
    """Weights of the cells along one axis: a matrix of (K * bins) x size.

    Args:
        start: (K,) where each RoI begins, in cells; 0 is the centre of the first cell.
        length: (K,) its extent, in cells.
        bins: output bins.
        samples: (K,) int64, sampling points per bin; 0 gives an empty row.
        size: cells.
    """
    most = int(samples.max()) if len(samples) else 0
    point = torch.arange(most, device=start.device)
    per_bin = samples.clamp(min=1).to(start.dtype)[:, None, None]
    step = (length / bins)[:, None, None]
    which = torch.arange(bins, device=start.device, dtype=start.dtype)[None, :, None]
    at = start[:, None, None] + which * step + (point + 0.5) * step / per_bin  # (K, bins, most)
    inside = (at >= -1) & (at <= size) & (point < samples[:, None, None])
    at = at.clamp(0, size - 1)
    low = at.floor()
    part = at - low
    cell = low.long()
    row = torch.arange(len(start) * bins, device=start.device).view(-1, bins, 1) * size
    keys = torch.stack([row + cell, row + (cell + 1).clamp(max=size - 1)])
    weight = torch.where(inside, torch.stack([1 - part, part]) / per_bin, 0)
    unique, place = torch.unique(keys[weight != 0], return_inverse=True)
    values = weight.new_zeros(len(unique)).index_add_(0, place, weight[weight != 0])
    counts = torch.bincount(unique // size, minlength=len(start) * bins)
    return Sparse(counts, unique % size, values)


class Plan(NamedTuple):
    """How the bins of K RoIs depend on the cells of a feature map.

    Attributes:
        y: rows of the map, (K * out height) x H.
        x: columns of the map, (K * out width) x W.
        image: (K,) int64.
        shape: (B, H, W) of the map.
        out: (height, width) of the output, bins.
    """

    y: Sparse
    x: Sparse
    image: Tensor
    shape: tuple[int, int, int]
    out: tuple[int, int]

    def joint(self) -> Sparse:
        """One matrix: (K * out height * out width) x (B * H * W)."""
        (_, h, w), (oh, ow), k = self.shape, self.out, len(self.image)
        ny, nx = self.y.counts.view(k, oh, 1), self.x.counts.view(k, 1, ow)
        counts = (ny * nx).flatten()
        bin_of = torch.repeat_interleave(counts)
        ends = counts.cumsum(0) - counts
        within = torch.arange(len(bin_of), device=counts.device) - ends[bin_of]
        wide = nx.expand(k, oh, ow).flatten()[bin_of]
        row = bin_of // ow
        column = bin_of // (oh * ow) * ow + bin_of % ow
        ey = self.y.starts[row] + torch.div(within, wide, rounding_mode="floor")
        ex = self.x.starts[column] + within % wide
        cell = (self.image[bin_of // (oh * ow)] * h + self.y.cols[ey]) * w + self.x.cols[ex]
        return Sparse(counts, cell, self.y.values[ey] * self.x.values[ex])

    def parts(self) -> tuple[Sparse, Sparse]:
        """Two matrices: to (K * out height) rows of W cells, then to the bins."""
        (_, h, w), (oh, ow), k = self.shape, self.out, len(self.image)
        owner = torch.repeat_interleave(self.y.counts) // oh
        rows = Sparse(self.y.counts, self.image[owner] * h + self.y.cols, self.y.values)
        # The same columns for every output row of a RoI.
        first = self.x.counts.view(k, 1, ow).expand(k, oh, ow).flatten()
        entry = self.x.starts.view(k, 1, ow).expand(k, oh, ow).flatten()
        bin_of = torch.repeat_interleave(first)
        ends = first.cumsum(0) - first
        within = torch.arange(len(bin_of), device=first.device) - ends[bin_of]
        e = entry[bin_of] + within
        return rows, Sparse(first, bin_of // ow * w + self.x.cols[e], self.x.values[e])

    def in_parts(self, channels: int) -> bool:
        """Whether rows first, then columns, is faster for a map of so many channels."""
        (oh, ow), k, w = self.out, len(self.image), self.shape[2]
        ny, nx = self.y.counts.view(k, oh).sum(1), self.x.counts.view(k, ow).sum(1)
        joint = ny * nx * (channels + _ENTRY_COST)
        parts = ny * (w * channels + _ENTRY_COST) + oh * nx * (channels + _ENTRY_COST)
        return bool(parts.sum() < joint.sum())


def plan(rois: Tensor, shape: tuple[int, int, int], out: tuple[int, int], *, scale: float,
         sampling: int, aligned: bool) -> Plan:  # fmt: skip
    """Lay out the sampling points.

    Args:
        rois: (K, 5) float: image index, x1, y1, x2, y2 in image px.
        shape: (B, H, W) of the feature map.
        out: bins (height, width).
        scale: cells per image px.
        sampling: points per bin and axis; 0: ceil(cells per bin), for each RoI.
        aligned: whether px and cells are aligned at their corners (half a cell is subtracted).

    Raises:
        ValueError: for a RoI that is not finite, of negative size, or of no image.

    Source: mmcv 2.1, ops/csrc/pytorch/cpu/roi_align.cpp (its meaning, not its code).
    """
    image, box = rois[:, 0].long(), rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    size = box[:, 2:] - box[:, :2]
    bad = ~torch.isfinite(rois).all(1) | (image < 0) | (image >= shape[0])
    bad |= (size < 0).any(1) & aligned
    if bool(bad.any()):
        raise ValueError(
            f"RoI {rois[bad][0].tolist()} of {shape[0]} images, want x1 <= x2, y1 <= y2, finite"
        )
    if not aligned:
        size = size.clamp(min=1)
    bins = size.new_tensor([out[1], out[0]])
    points = (
        torch.ceil(size / bins).long() if sampling <= 0 else torch.full_like(size, sampling).long()
    )
    return Plan(
        _axis(box[:, 1], size[:, 1], out[0], points[:, 1], shape[1]),
        _axis(box[:, 0], size[:, 0], out[1], points[:, 0], shape[2]),
        image, shape, out,
    )  # fmt: skip


def forward(features: Tensor, how: Plan) -> Tensor:
    """(B, C, H, W), any strides -> (K, C, out height, out width) in the plan's precision."""
    (b, h, w), c, k = how.shape, features.shape[1], len(how.image)
    cells = features.permute(0, 2, 3, 1).to(how.y.values.dtype).contiguous()
    if how.in_parts(c):
        rows, columns = how.parts()
        bins = columns.times(rows.times(cells.view(b * h, w * c)).view(-1, c))
    else:
        bins = how.joint().times(cells.view(-1, c))
    return bins.view(k, *how.out, c).permute(0, 3, 1, 2)


def backward(grad: Tensor, how: Plan) -> Tensor:
    """(K, C, out height, out width) -> the gradient of the map, (B, C, H, W)."""
    (b, h, w), c = how.shape, grad.shape[1]
    bins = grad.permute(0, 2, 3, 1).to(how.y.values.dtype).reshape(-1, c)
    if how.in_parts(c):
        rows, columns = how.parts()
        lines = columns.transposed(len(rows.counts) * w).times(bins).view(-1, w * c)
        cells = rows.transposed(b * h).times(lines)
    else:
        cells = how.joint().transposed(b * h * w).times(bins)
    return cells.view(b, h, w, c).permute(0, 3, 1, 2)


def suppress(boxes: Tensor, scores: Tensor, iou: float, offset: int = 0) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        iou: a box that overlaps a better kept one by more than this goes.
        offset: 1 where x2 and y2 name the last pixel, else 0.

    Returns:
        (M,) int64, indices of the kept boxes, best first; equal scores keep their order.
    """
    left = scores.argsort(descending=True, stable=True)
    kept = []
    while len(left):
        block, left = left[:_NMS_BLOCK], left[_NMS_BLOCK:]
        over = _overlap(boxes[block], boxes[block], offset) > iou
        rows = over.triu_(1).cpu().numpy()
        alive = torch.ones(len(block), dtype=torch.bool).numpy()
        for i in range(len(block)):
            if alive[i]:
                alive &= ~rows[i]
        best = block[torch.from_numpy(alive).to(block.device)]
        kept.append(best)
        if len(left):
            left = left[~(_overlap(boxes[best], boxes[left], offset) > iou).any(0)]
    return torch.cat(kept) if kept else left


def _overlap(a: Tensor, b: Tensor, offset: int) -> Tensor:
    """IoU of (N, 4) and (M, 4): (N, M); not a number for two empty boxes."""
    # By columns: four times as fast as on (N, M, 2).
    ax1, ay1, ax2, ay2 = (c.contiguous()[:, None] for c in a.unbind(1))
    bx1, by1, bx2, by2 = (c.contiguous() for c in b.unbind(1))
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1) + offset).clamp_(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1) + offset).clamp_(min=0)
    inter = width * height
    area_a = (ax2 - ax1 + offset) * (ay2 - ay1 + offset)
    area_b = (bx2 - bx1 + offset) * (by2 - by1 + offset)
    return inter / (area_a + area_b - inter)
