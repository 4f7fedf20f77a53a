"""EfficientNet-Lite0 with drawn weights under its package's names, and what it computes."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from robollm.export.efficientnet import STAGES

WIDTHS = (16, 24, 40, 80, 112, 192, 320)


def weights(seed=0):
    """Name -> (…) float32; norms that do something, and features of about 1."""
    rng = np.random.default_rng(seed)
    out = {}

    def conv(name, norm, channels, inputs, size=1):
        scale = (2 / (inputs * size * size)) ** 0.5
        shape = (channels, inputs, size, size)
        out[f"{name}.weight"] = rng.normal(0, scale, shape).astype(np.float32)
        out[f"{norm}.weight"] = rng.uniform(0.8, 1.2, channels).astype(np.float32)
        out[f"{norm}.bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
        out[f"{norm}.running_mean"] = rng.normal(0, 0.1, channels).astype(np.float32)
        out[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)

    conv("_conv_stem", "_bn0", 32, 3, 3)
    number, inputs = 0, 32
    for (repeats, size, _, expand), width in zip(STAGES, WIDTHS, strict=True):
        for _ in range(repeats):
            name, inner = f"_blocks.{number}", inputs * expand
            if expand > 1:
                conv(f"{name}._expand_conv", f"{name}._bn0", inner, inputs)
            conv(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, size)
            conv(f"{name}._project_conv", f"{name}._bn2", width, inner)
            number, inputs = number + 1, width
    conv("_conv_head", "_bn1", 1280, 320)
    return out


def features(state, pixels):
    """The slow way, batch norms as they are: (N, 224, 224, 3) uint8 -> (N, 1280) float32."""
    w = {name: torch.from_numpy(value) for name, value in state.items()}

    def conv(x, name, norm, stride=1, groups=1, act=True):
        kernel = w[f"{name}.weight"]
        size, side = kernel.shape[-1], x.shape[-1]
        pad = max((-(-side // stride) - 1) * stride + size - side, 0)
        x = F.pad(x, [pad // 2, pad - pad // 2] * 2)
        x = F.conv2d(x, kernel, stride=stride, groups=groups)
        norms = [w[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *norms, eps=1e-3)
        return F.relu6(x) if act else x

    x = (torch.from_numpy(pixels).float().permute(0, 3, 1, 2) - 127) / 128
    x, number = conv(x, "_conv_stem", "_bn0", 2), 0
    for repeats, _, stride, expand in STAGES:
        for again in range(repeats):
            name = f"_blocks.{number}"
            y = conv(x, f"{name}._expand_conv", f"{name}._bn0") if expand > 1 else x
            step = 1 if again else stride
            y = conv(y, f"{name}._depthwise_conv", f"{name}._bn1", step, y.shape[1])
            y = conv(y, f"{name}._project_conv", f"{name}._bn2", act=False)
            x, number = (y + x if again else y), number + 1
    return conv(x, "_conv_head", "_bn1").mean((2, 3)).numpy()
