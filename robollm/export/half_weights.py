"""Weights that float16 can hold: rounded in torch before anything is measured, packed at the end.

Rounding comes first, so that torch, every graph and every metric are of the same numbers, and
packing loses nothing. It concerns matrices and kernels, nearly all bytes; biases, normalisations
and everything small stay as they are. Arithmetic stays float32: a packed graph stores a weight in
float16 with a standard Cast behind it, which ONNX Runtime and OpenVINO compute once, at load. What
they run then, and what they need of memory, is as without packing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from robollm.core.errors import ModelFileError

if TYPE_CHECKING:
    from robollm.export.collect import Collected
    from robollm.export.parity import Probes

LEAST = 1024
"""Numbers of a constant that is worth a Cast."""
NORMAL = 2.0**-14
"""The smallest number that float16 holds with all of its 11 bits; below they get fewer."""
PROMISE = 2.0**-11
"""Half of float16's last bit: no number in its normal range is rounded by a larger share."""
SAME = 2.0**-22
"""Share by which a stored weight may differ from float16's: where a graph has a factor in it (the
scale of attention's q, an adapter's alpha) float32 may be off in its last bit."""
HALF_NAME = "/half"
"""How names of constants end that are stored as float16; without it they are the Cast's."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """What rounding did to the weights.

    Attributes:
        tensors: how many weights were rounded.
        numbers: in all of them.
        largest_relative_error: of a number in float16's normal range.
        below_normal: numbers below that range, zeros aside.
        largest_error_below_normal: of one of these; absolute.
        kept: weights that stay float32, because too much of them is below the range.
    """

    tensors: int
    numbers: int
    largest_relative_error: float
    below_normal: int
    largest_error_below_normal: float
    kept: tuple[str, ...]

    def card(self) -> dict[str, Any]:
        """What stands in the card's `provenance.weights`."""
        return {
            "storage": "half",
            "tensors": self.tensors,
            "numbers": self.numbers,
            "largest_relative_error": float(f"{self.largest_relative_error:.3g}"),
            "below_normal": self.below_normal,
            "largest_error_below_normal": float(f"{self.largest_error_below_normal:.3g}"),
            "kept_float32": list(self.kept),
        }


def round_weights(parts: Collected) -> tuple[Collected, Rounding]:
    """A copy whose matrices and kernels hold numbers of float16 only.

    A weight that a graph stores times a factor is rounded with that factor. A weight of which
    rounding takes more than `PROMISE` of its length (the root of its squares' sum), because it is
    mostly below float16's normal range, stays as it is.

    Args:
        parts: from `collect`; they stay as they are.

    Raises:
        ModelFileError: a weight is beyond float16's range, 65504, or not a number.
    """
    out = copy.deepcopy(parts)
    tensors = numbers = below = 0
    relative = absolute = 0.0
    kept = []
    for name, weight, factor in _matrices(out):
        full = weight.detach().cpu().numpy() * np.float32(factor)
        half = to_half(full)
        if not np.isfinite(half).all():
            raise ModelFileError(
                f"{name}: its largest number is {np.abs(full).max():.6g}, float16 ends at 65504",
                fix="export with --weights full, or train with more weight decay",
            )
        error = np.abs(half.astype(np.float64) - full)
        if np.linalg.norm(error) > PROMISE * np.linalg.norm(full.astype(np.float64)):
            kept.append(name)
            continue
        size = np.abs(full)
        normal, low = size >= NORMAL, (size > 0) & (size < NORMAL)
        relative = max(relative, float((error[normal] / size[normal]).max(initial=0)))
        absolute = max(absolute, float(error[low].max(initial=0)))
        below += int(low.sum())
        tensors, numbers = tensors + 1, numbers + full.size
        rounded = half.astype(np.float32) / np.float32(factor)
        weight.detach().copy_(weight.new_tensor(rounded))
    return out, Rounding(
        tensors=tensors,
        numbers=numbers,
        largest_relative_error=relative,
        below_normal=below,
        largest_error_below_normal=absolute,
        kept=tuple(kept),
    )


def to_half(full: Array) -> NDArray[np.float16]:
    """Round to float16, to the nearest; what is beyond its range becomes infinite."""
    with np.errstate(over="ignore"):
        return full.astype(np.float16)


def pack(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, with float16 stored where a large float32 constant is one.

    A constant `x` becomes `x` + `HALF_NAME` and a Cast that gives `x`. Nothing is rounded here:
    what isn't float16's number for number (up to `SAME`) stays float32, as do vectors and small
    constants.

    Args:
        model: of the default domain; it stays as it is.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    casts = []
    for tensor in out.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or not _is_large(tuple(tensor.dims)):
            continue
        full = numpy_helper.to_array(tensor)
        half = to_half(full)
        with np.errstate(invalid="ignore"):  # infinity times 0
            same = np.abs(half.astype(np.float32) - full) <= np.float32(SAME) * np.abs(full)
        if not same.all():
            continue
        name, stored = tensor.name, f"{tensor.name}{HALF_NAME}"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(
            helper.make_node("Cast", [stored], [name], name=f"{name}/Cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *out.graph.node]
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return out


def moved(before: Collected, after: Collected, probes: Probes) -> dict[str, float]:
    """How far rounding moved what the models say, torch against torch, at most.

    Args:
        before: with the weights as trained.
        after: rounded.
        probes: real pictures.

    Returns:
        `map`: of totes, in parts of the range of `before`'s; `embedding`: of crops, 1 - cosine
        (half of the squared distance); `logits`: of crops as defects.
    """
    from robollm.export.reference import TorchModels  # needs torch, packing doesn't

    old, new = TorchModels(before), TorchModels(after)
    maps = []
    for tote in probes.totes:
        one, other = (m.encode(tote, "segmentation")[0] for m in (old, new))
        maps.append(float(np.abs(one - other).max() / np.ptp(one)))
    apart = old.embed(probes.crops).astype(np.float64) - new.embed(probes.crops)
    logits = np.abs(old.inspect(probes.crops) - new.inspect(probes.crops))
    found = {"map": max(maps), "embedding": float((apart**2).sum(axis=1).max() / 2),
             "logits": float(logits.max())}  # fmt: skip
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def _matrices(parts: Collected) -> Iterator[tuple[str, Any, float]]:
    """Each large weight once: its name, itself, and what the graph stores it times."""
    factors = _factors(parts)
    seen: set[int] = set()
    for module in ("encoder", "detector", "identification", "defects"):
        for name, weight in getattr(parts, module).named_parameters():
            if id(weight) not in seen and _is_large(tuple(weight.shape)):
                seen.add(id(weight))
                yield f"{module}.{name}", weight, factors.get(name, 1.0)


def _factors(parts: Collected) -> Mapping[str, float]:
    """Weights of the encoder that `build_backbone` stores times a factor, and that."""
    from robollm.train.adapters.multiway import settings_of_task

    s = parts.encoder.settings
    alphas = {task: settings_of_task(parts.encoder, task).alpha for task in parts.adapters}
    found = {}
    for name, _ in parts.encoder.named_parameters():
        if name.endswith(".attn.q.weight"):
            found[name] = (s.dim // s.heads) ** -0.5
        elif ".adapters." in name and name.endswith(".up.weight"):
            found[name] = alphas[name.partition(".adapters.")[2].partition(".")[0]]
    return found


def _is_large(shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and int(np.prod(shape)) >= LEAST
