"""PyTorch's layers, as they are in evaluation, written into a graph with their weights.

A tracer would want the model to run, and writes what it saw; this reads the layers that detectors
are made of, one by one, and refuses every other. Constants have the modules' names, so that people
and quantisers find them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from robollm.core.errors import ModelFileError
from robollm.export.graphs import Graph
from robollm.train.detector import ops

ops.prepare()
from mmcv.cnn import ConvModule  # noqa: E402
from mmcv.cnn.bricks import wrappers  # noqa: E402
from mmcv.cnn.bricks.drop import Dropout  # noqa: E402

from robollm.train.detector.simple_fpn import LayerNorm2d  # noqa: E402
from robollm.train.detector.speed import Pointwise, Unpool  # noqa: E402


class TorchLayers:
    """Writes modules into one graph. A module may be written again, on another value.

    Args:
        graph: where the nodes go.
    """

    def __init__(self, graph: Graph) -> None:
        self.g = graph
        self._stored: dict[str, str] = {}

    def __call__(self, module: nn.Module, x: str, name: str) -> str:
        """Apply a module.

        Args:
            module: one of `supported`, exactly: a subclass may mean something else.
            x: its input, shaped as the module wants it.
            name: path of the module; its weights are called `{name}.weight` and so on.

        Returns:
            The module's output.

        Raises:
            ModelFileError: for another module, or a setting of it that is not written.
        """
        write = self._writers().get(type(module))
        if write is None:
            raise ModelFileError(
                f"{name} is a {type(module).__name__}, which the export can't write",
                fix=f"build the detector of {', '.join(self.supported())}",
            )
        return write(module, x, name)

    @classmethod
    def supported(cls) -> list[str]:
        """Names of the modules that can be written."""
        return sorted({kind.__name__ for kind in cls._table()})

    @classmethod
    def _table(cls) -> dict[type[nn.Module], str]:
        kinds: dict[str, tuple[type[nn.Module], ...]] = {
            "_conv": (nn.Conv2d, wrappers.Conv2d, Pointwise),
            "_deconv": (nn.ConvTranspose2d, wrappers.ConvTranspose2d, Unpool),
            "_linear": (nn.Linear, wrappers.Linear),
            "_layer_norm": (nn.LayerNorm,),
            "_layer_norm_2d": (LayerNorm2d,),
            "_group_norm": (nn.GroupNorm,),
            "_batch_norm": (nn.BatchNorm2d,),
            "_gelu": (nn.GELU,),
            "_relu": (nn.ReLU,),
            "_pool": (nn.MaxPool2d, wrappers.MaxPool2d),
            "_sequence": (nn.Sequential,),
            "_nothing": (nn.Identity, nn.Dropout, Dropout),
            "_conv_module": (ConvModule,),
        }
        return {kind: writer for writer, some in kinds.items() for kind in some}

    def _writers(self) -> dict[type[nn.Module], Callable[[Any, str, str], str]]:
        return {kind: getattr(self, writer) for kind, writer in self._table().items()}

    def weight(self, value: Tensor, name: str) -> str:
        """A weight as a constant, stored once however often its module is written."""
        if name not in self._stored:
            array = np.ascontiguousarray(value.detach().cpu().float().numpy())
            self._stored[name] = self.g.const(array, name)
        return self._stored[name]

    def _weights(self, module: Any, name: str) -> list[str]:
        """Of a module, and its bias if it has one."""
        pairs = ((module.weight, "weight"), (module.bias, "bias"))
        return [self.weight(v, f"{name}.{part}") for v, part in pairs if v is not None]

    def _conv(self, m: nn.Conv2d, x: str, name: str) -> str:
        self._want(isinstance(m.padding, tuple) and m.padding_mode == "zeros", name, "its padding")
        return self.g.op("Conv", x, *self._weights(m, name), **_window(m), group=m.groups)

    def _deconv(self, m: nn.ConvTranspose2d, x: str, name: str) -> str:
        window = _window(m) | {"output_padding": [int(v) for v in m.output_padding]}
        return self.g.op("ConvTranspose", x, *self._weights(m, name), **window, group=m.groups)

    def _linear(self, m: nn.Linear, x: str, name: str) -> str:
        """The matrix is stored transposed, which is what ONNX Runtime packs once at load."""
        x = self.g.op("MatMul", x, self.weight(m.weight.T, f"{name}.weight"))
        return x if m.bias is None else self.g.op("Add", x, self.weight(m.bias, f"{name}.bias"))

    def _layer_norm(self, m: nn.LayerNorm, x: str, name: str) -> str:
        one_axis = len(m.normalized_shape) == 1 and m.weight is not None
        self._want(one_axis, name, "several axes, or no weight")
        weights = self._weights(m, name)
        return self.g.op("LayerNormalization", x, *weights, axis=-1, epsilon=m.eps)

    def _layer_norm_2d(self, m: nn.LayerNorm, x: str, name: str) -> str:
        x = self._layer_norm(m, self.g.op("Transpose", x, perm=[0, 2, 3, 1]), name)
        return self.g.op("Transpose", x, perm=[0, 3, 1, 2])

    def _group_norm(self, m: nn.GroupNorm, x: str, name: str) -> str:
        """As an instance normalisation of (N, groups, C / groups, H, W): opset 17 has no better."""
        g, groups = self.g, m.num_groups
        size = [g.ints(0, groups, m.num_channels // groups), g.dim(x, 2), g.dim(x, 3)]
        y = g.op("Reshape", x, g.op("Concat", *size, axis=0))
        one, zero = g.floats(*[1.0] * groups), g.floats(*[0.0] * groups)
        y = g.op("InstanceNormalization", y, one, zero, epsilon=m.eps)
        y = g.op("Reshape", y, g.op("Shape", x))
        if not m.affine:
            return y
        scale, shift = (
            self.weight(v.view(-1, 1, 1), f"{name}.{part}")
            for v, part in ((m.weight, "weight"), (m.bias, "bias"))
        )
        return g.op("Add", g.op("Mul", y, scale), shift)

    def _batch_norm(self, m: nn.BatchNorm2d, x: str, name: str) -> str:
        known = m.running_mean is not None and m.running_var is not None
        self._want(known and m.affine, name, "no running statistics, or no weight")
        mean = self.weight(m.running_mean, f"{name}.running_mean")  # type: ignore[arg-type]
        var = self.weight(m.running_var, f"{name}.running_var")  # type: ignore[arg-type]
        weights = self._weights(m, name)
        return self.g.op("BatchNormalization", x, *weights, mean, var, epsilon=m.eps)

    def _gelu(self, m: nn.GELU, x: str, name: str) -> str:
        self._want(m.approximate == "none", name, f"approximate={m.approximate!r}")
        return self.g.gelu(x)

    def _relu(self, m: nn.ReLU, x: str, name: str) -> str:
        del m, name
        return self.g.op("Relu", x)

    def _pool(self, m: nn.MaxPool2d, x: str, name: str) -> str:
        del name
        return self.g.op("MaxPool", x, **_window(m), ceil_mode=int(m.ceil_mode))

    def _nothing(self, m: nn.Module, x: str, name: str) -> str:
        del m, name
        return x

    def _sequence(self, m: nn.Sequential, x: str, name: str) -> str:
        for part, child in m.named_children():
            x = self(child, x, f"{name}.{part}")
        return x

    def _conv_module(self, m: Any, x: str, name: str) -> str:
        plain = not (m.with_explicit_padding or m.with_spectral_norm)
        self._want(plain, name, "its padding, or spectral normalisation")
        for step in m.order:
            if step == "conv":
                x = self(m.conv, x, f"{name}.conv")
            elif step == "norm" and m.with_norm:
                x = self(m.norm, x, f"{name}.{m.norm_name}")
            elif step == "act" and m.with_activation:
                x = self(m.activate, x, f"{name}.activate")
        return x

    def _want(self, fits: bool, name: str, what: str) -> None:
        if not fits:
            raise ModelFileError(
                f"{name} has {what}: the export can't write that",
                fix="train with the layer's default for this setting",
            )


def _window(m: Any) -> dict[str, Any]:
    """Kernel, stride, padding and dilation of a convolution or pooling, as attributes."""

    def both(value: Any) -> list[int]:
        return [int(v) for v in value] if isinstance(value, tuple) else [int(value)] * 2

    return {
        "kernel_shape": both(m.kernel_size),
        "strides": both(m.stride),
        "pads": both(m.padding) * 2,
        "dilations": both(m.dilation),
    }
