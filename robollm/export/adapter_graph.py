"""MultiWay-Adapters in ONNX: of one task, or of several, chosen row by row.

What is computed is `robollm.train.adapters.multiway`. The matrices of all tasks are stacked behind
one of zeros, and each row of the batch gathers its own: a row of no task gets exactly 0. The other
way, all tasks' bottlenecks side by side in one pair of matrices and a mask between them, costs 1.7
times as much with two tasks (ONNX Runtime and OpenVINO, measured at 768 channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.graphs import EPS, Array, Graph

PARTS = ("extractor", "enhancer")
Weights = Mapping[str, Array]


def split_adapters(weights: Weights) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """Tell the encoder's own weights from its adapters'.

    Returns:
        The encoder's, and by task the adapters', named `blocks.i.<part>.{down,up}.<kind>`.
    """
    own: dict[str, Array] = {}
    tasks: dict[str, dict[str, Array]] = {}
    for name, value in weights.items():
        block, mark, rest = name.partition(".adapters.")
        task, _, part = rest.partition(".")
        if mark:
            tasks.setdefault(task, {})[f"{block}.{part}"] = value
        else:
            own[name] = value
    return own, tasks


@dataclass(frozen=True, slots=True)
class Adapters:
    """The adapters of a graph.

    Attributes:
        tasks: names and weights, as `split_adapters` gives them, in the order of input `task`.
        alphas: factor of each.
        task: (N,) int64 value, 0 for none; "" if the only task is always on.
        dim: channels of a token, C.
        depth: number of blocks.
    """

    tasks: Mapping[str, Weights]
    alphas: Mapping[str, float]
    task: str
    dim: int
    depth: int

    def __post_init__(self) -> None:
        for name, weights in self.tasks.items():
            if name not in self.alphas:
                raise ConfigError(f"there is no alpha for adapters {name!r}", fix="give one")
            _check(name, weights, self.dim, self.depth)

    def add(self, g: Graph, x: str, block: int, part: str, name: str) -> str | None:
        """What one part of one block adds, alpha included.

        Args:
            g: the graph.
            x: (N, T, C) float32.
            block: which, from 0.
            part: one of `PARTS`.
            name: prefix of the constants.

        Returns:
            (N, T, C), or None if no task has this part.
        """
        stem = f"blocks.{block}.{part}"
        having = [t for t, weights in self.tasks.items() if f"{stem}.down.weight" in weights]
        if not having:
            return None
        if part == "enhancer":  # its LayerNorm has no weights
            ones = g.once(np.ones(self.dim, np.float32), "ones")
            x = g.op("LayerNormalization", x, ones, axis=-1, epsilon=EPS)
        matrices = {task: self._scaled(task, stem) for task in having}
        if not self.task:
            down, down_bias, up, up_bias = matrices[having[0]]
            y = g.op("Relu", g.linear(x, down, down_bias, f"{name}.down"))
            return g.linear(y, up, up_bias, f"{name}.up")
        middle = max(len(down) for down, *_ in matrices.values())
        count = 1 + len(self.tasks)
        downs = np.zeros((count, self.dim, middle), np.float32)
        ups = np.zeros((count, middle, self.dim), np.float32)
        down_biases = np.zeros((count, 1, middle), np.float32)
        up_biases = np.zeros((count, 1, self.dim), np.float32)
        for row, task in enumerate(self.tasks, start=1):
            if task in matrices:
                down, down_bias, up, up_bias = matrices[task]
                downs[row, :, : len(down)] = down.T
                down_biases[row, :, : len(down)] = down_bias
                ups[row, : len(down)] = up.T
                up_biases[row] = up_bias
        y = g.op("MatMul", x, self._own(g, downs, f"{name}.down"))
        y = g.op("Relu", g.op("Add", y, self._own(g, down_biases, f"{name}.down.bias")))
        y = g.op("MatMul", y, self._own(g, ups, f"{name}.up"))
        return g.op("Add", y, self._own(g, up_biases, f"{name}.up.bias"))

    def _scaled(self, task: str, stem: str) -> tuple[Array, Array, Array, Array]:
        """Weight and bias of down and of up; alpha is in the latter."""
        down, up = (
            [self.tasks[task][f"{stem}.{half}.{kind}"] for kind in ("weight", "bias")]
            for half in ("down", "up")
        )
        alpha = np.float32(self.alphas[task])
        return down[0], down[1], alpha * up[0], alpha * up[1]

    def _own(self, g: Graph, stack: Array, name: str) -> str:
        """Each picture's part of a stack (1 + tasks, I, O): (N, I, O)."""
        return g.op("Gather", g.const(stack, name), self.task, axis=0)


def choose_adapters(
    g: Graph,
    weights: Mapping[str, Weights],
    *,
    dim: int,
    depth: int,
    adapters: Sequence[str],
    alphas: Mapping[str, float],
    baked: str,
) -> Adapters | None:
    """Declare input `task` if rows choose their adapters.

    Raises:
        ConfigError: `adapters` and `baked` are both given, a name comes twice, or an alpha is
            missing.
        ModelFileError: the weights have no adapters of this name, adapters that nobody names,
            or such of a wrong shape.
    """
    if adapters and baked:
        raise ConfigError(
            f"adapters {', '.join(adapters)} are to be switched and {baked!r} to be baked in",
            fix="give one of the two",
        )
    if len(set(adapters)) < len(adapters):
        raise ConfigError(f"adapters are {', '.join(adapters)}", fix="name each once")
    named = [baked] if baked else list(adapters)
    for task in named:
        if task not in weights:
            raise ModelFileError(
                f"the weights have no adapters {task!r}, but {', '.join(weights) or 'none'}",
                fix="take the weights of the encoder that was trained with them",
            )
    left = sorted(set(weights) - set(named))
    if left and not baked:
        raise ModelFileError(
            f"the weights have adapters {', '.join(left)}, which are not asked for",
            fix="name them in `adapters`, or leave their weights out",
        )
    if not named:
        return None
    task = "" if baked else g.input("task", ["N"], dtype=TensorProto.INT64)
    return Adapters({name: weights[name] for name in named}, alphas, task, dim, depth)


def _check(task: str, weights: Weights, dim: int, depth: int) -> None:
    """Every block has the same parts, whole and of the right width."""
    want: dict[str, tuple[int, ...]] = {}
    for part in PARTS:
        middle = len(weights.get(f"blocks.0.{part}.down.weight", ()))
        sizes = {"down.weight": (middle, dim), "down.bias": (middle,)}
        sizes |= {"up.weight": (dim, middle), "up.bias": (dim,)}
        for i in range(depth if middle else 0):
            want |= {f"blocks.{i}.{part}.{kind}": size for kind, size in sizes.items()}
    got = {name: value.shape for name, value in weights.items()}
    wrong = sorted(k for k in want.keys() | got.keys() if want.get(k) != got.get(k))
    if wrong:
        k = wrong[0]
        raise ModelFileError(
            f"{len(wrong)} weights of adapters {task!r} don't fit, first {k!r}: "
            f"is {got.get(k, 'missing')}, want {want.get(k, 'no such weight')}",
            fix="export the encoder that they were trained on",
        )
