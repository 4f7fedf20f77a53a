"""MMDetection on mmcv-lite: the three compiled operators that Cascade Mask R-CNN calls, in torch.

mmcv-lite brings `mmcv.ops` without the compiled module `mmcv._ext`. `install` puts a module of that
name in its place, with nms, roi_align_forward and roi_align_backward; every other operator refuses
when it is called. A full mmcv is used as it is.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robollm.train.detector import roi_align

_NAME = "mmcv._ext"


class _Operators(types.ModuleType):
    """Looks complete to `mmcv.ops`, and says so when something is called that is not here."""

    nms: Callable[..., Tensor]
    roi_align_forward: Callable[..., None]
    roi_align_backward: Callable[..., None]
    get_compiler_version: Callable[[], str]
    get_compiling_cuda_version: Callable[[], str]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> Any:
            raise NotImplementedError(
                f"mmcv operator {name!r} is compiled code, and mmcv-lite has none; "
                "install a full mmcv 2.1"
            )

        return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """As `mmcv._ext.nms`; see `roi_align.suppress`."""
    return roi_align.suppress(boxes, scores, iou_threshold, offset)


def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor, *_max: Tensor, pool_mode: int,
                      **how: Any) -> None:  # fmt: skip
    """As `mmcv._ext.roi_align_forward`: fills `output`. Average pooling only.

    The map may have any strides (mmcv's own CPU operator ignores them). Half precision is
    computed in float32.
    """
    b, _, h, w = features.shape
    plan = _plan(rois, features.dtype, (b, h, w), pool_mode, **how)
    output.copy_(roi_align.forward(features, plan))


def roi_align_backward(grad: Tensor, rois: Tensor, _y: Tensor, _x: Tensor, grad_features: Tensor,
                       *, pool_mode: int, **how: Any) -> None:  # fmt: skip
    """As `mmcv._ext.roi_align_backward`: fills `grad_features`."""
    b, _, h, w = grad_features.shape
    plan = _plan(rois, grad.dtype, (b, h, w), pool_mode, **how)
    grad_features.copy_(roi_align.backward(grad, plan))


def _plan(rois: Tensor, dtype: torch.dtype, shape: tuple[int, int, int], pool_mode: int, *,
          aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
          aligned: bool) -> roi_align.Plan:  # fmt: skip
    if pool_mode != 1:
        raise NotImplementedError("RoIAlign with maxima needs a full mmcv; use pool_mode='avg'")
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    return roi_align.plan(
        rois.detach().to(precise), shape, (aligned_height, aligned_width),
        scale=spatial_scale, sampling=sampling_ratio, aligned=aligned,
    )  # fmt: skip


def install() -> bool:
    """Give mmcv the operators, unless it has its own.

    Returns:
        Whether mmcv now runs on ours.
    """
    if isinstance(sys.modules.get(_NAME), _Operators):
        return True
    if importlib.util.find_spec(_NAME) is not None:
        return False
    ours = _Operators(_NAME, "nms and RoIAlign in torch, by robollm")
    ours.__spec__ = importlib.machinery.ModuleSpec(_NAME, None, origin=__file__)
    ours.nms = nms
    ours.roi_align_forward = roi_align_forward
    ours.roi_align_backward = roi_align_backward
    # mmcv.ops asks for these when it reports what it was built with.
    ours.get_compiler_version = lambda: "torch only"
    ours.get_compiling_cuda_version = lambda: "torch only"
    sys.modules[_NAME] = ours
    return True


def prepare() -> None:
    """Make MMDetection usable: operators, its registries and ours. Cheap when called again."""
    install()
    with warnings.catch_warnings():
        # Of third parties, while they are imported; nothing here is about our own code.
        for kind in (DeprecationWarning, FutureWarning, ImportWarning, SyntaxWarning):
            warnings.simplefilter("ignore", kind)
        from mmdet.utils import register_all_modules

        register_all_modules(init_default_scope=False)
