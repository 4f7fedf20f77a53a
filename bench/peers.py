"""Segmentation alone against what a user would take else: same picture, same cores, one run.

`python bench/peers.py` writes results/peers.json. All weights are random: this is time, not
accuracy. A 640 x 640 px picture to instances with full-size masks, in turns:

- MMDetection's Mask R-CNN with ResNet-50 and FPN, its own configuration (1000 proposals, 100
  instances), torch eager, under bf16 autocast, and with torch.compile on backbone and neck;
- YOLO11-seg (s, x) by `ultralytics`, and RF-DETR-Seg (small) by `rfdetr` in torch, where these
  packages are installed; they are no requirement of ours. Without torchvision's compiled part (a
  build for another torch) its NMS is ours in torch;
- ours, through `Perceiver`: BEiT-3 Base with the official heads (1000 and 100 proposals), and the
  small model.

MMDetection's RoIAlign and NMS are those of the mmcv that is installed, and `operators` says which:
with mmcv-lite they are ours in torch, slower than compiled ones. `share` is their part of a run of
the reference, the median over its timed runs, and ratio_bound what a ratio would be if they took
the reference no time at all.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from functools import partial
from typing import Any

import bundles
import kit
from operators import Meter

from robollm.core.errors import RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import Job, fixed, interleave, table
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.workload import Workload

SIDE = 640
REFERENCE = "Mask R-CNN R50, torch fp32"
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours, Base, cpu fp32": ("base", {"precision": "fp32"}),
    "ours, Base, cpu int8, 100 proposals": ("base", {"precision": "int8", "proposals": 100}),
    "ours, Base, openvino bf16": ("base", {"provider": "openvino", "precision": "bf16"}),
    "ours, Base, openvino bf16, 100 proposals": (
        "base",
        {"provider": "openvino", "precision": "bf16", "proposals": 100},
    ),
    "ours, small, cpu fp32": ("small", {"precision": "fp32"}),
    "ours, small, cpu int8": ("small", {"precision": "int8"}),
    "ours, small, openvino bf16": ("small", {"provider": "openvino", "precision": "bf16"}),
}


def mask_rcnn() -> Any:
    """MMDetection's mask-rcnn_r50_fpn, one class; weights drawn with seed 0."""
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, DefaultScope

    from robollm.train.detector.ops import prepare

    prepare()
    roi = {"type": "SingleRoIExtractor", "out_channels": 256, "featmap_strides": [4, 8, 16, 32]}
    coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4}
    config = {
        "type": "MaskRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "pad_size_divisor": 32,
        },
        "backbone": {
            "type": "ResNet",
            "depth": 50,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": 1,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "norm_eval": True,
            "style": "pytorch",
        },
        "neck": {
            "type": "FPN",
            "in_channels": [256, 512, 1024, 2048],
            "out_channels": 256,
            "num_outs": 5,
        },
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [8],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": {**coder, "target_stds": [1.0] * 4},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                **roi,
                "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
            },
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": 256,
                "fc_out_channels": 1024,
                "roi_feat_size": 7,
                "num_classes": 1,
                "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
            },
            "mask_roi_extractor": {
                **roi,
                "roi_layer": {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 0},
            },
            "mask_head": {
                "type": "FCNMaskHead",
                "num_convs": 4,
                "in_channels": 256,
                "conv_out_channels": 256,
                "num_classes": 1,
            },
        },
        "train_cfg": None,
        "test_cfg": {
            "rpn": {
                "nms_pre": 1000,
                "max_per_img": 1000,
                "nms": {"type": "nms", "iou_threshold": 0.7},
                "min_bbox_size": 0,
            },
            "rcnn": {
                "score_thr": 0.05,
                "nms": {"type": "nms", "iou_threshold": 0.5},
                "max_per_img": 100,
                "mask_thr_binary": 0.5,
            },
        },
    }
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(ConfigDict(config)).eval()


def mmdet_jobs(rgb: Any, args: argparse.Namespace, torch: Any) -> dict[str, Job]:
    """Mask R-CNN in its ways to run."""
    from mmdet.structures import DetDataSample

    def runner(model: Any, bf16: bool) -> Job:
        def run() -> int:
            meta = {"img_shape": rgb.shape[:2], "ori_shape": rgb.shape[:2],
                    "scale_factor": (1.0, 1.0)}  # fmt: skip
            batch = {
                "inputs": [torch.from_numpy(rgb).permute(2, 0, 1).contiguous()],
                "data_samples": [DetDataSample(metainfo=meta)],
            }
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                (found,) = model.test_step(batch)
            return len(found.pred_instances.masks)

        return fixed(run)

    plain = mask_rcnn()
    jobs = {REFERENCE: runner(plain, False), "Mask R-CNN R50, torch bf16": runner(plain, True)}
    if not args.no_compile:
        fast = mask_rcnn()
        fast.backbone.compile(dynamic=False)
        fast.neck.compile(dynamic=False)
        jobs["Mask R-CNN R50, torch.compile fp32"] = runner(fast, False)
    return jobs


def lend_torchvision_operators(torch: Any) -> str:
    """Make `import torchvision` work beside a torch that it was not built for.

    Returns:
        Whose operators run.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        return "torchvision's"
    from robollm.train.detector.roi_align import suppress

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sizes = "Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
    rest = "int sampling_ratio, bool aligned) -> Tensor"
    library.define(f"roi_align(Tensor input, {sizes}, {rest}")
    shape = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
    library.define(f"_roi_align_backward(Tensor grad, {sizes}, {shape}, {rest}")
    library.impl("nms", lambda boxes, scores, iou: suppress(boxes, scores, iou, 0), "CPU")
    import torchvision.extension as extension

    extension._has_ops = lambda: True
    lend_torchvision_operators.kept = library  # type: ignore[attr-defined] # dies with it
    return "robollm's, in torch"


def yolo_jobs(rgb: Any) -> dict[str, Job]:
    """YOLO11-seg, at a threshold that leaves 100 instances: random weights are sure of nothing."""
    from ultralytics import YOLO

    def job(model: Any) -> Job:
        how = {"imgsz": SIDE, "max_det": 100, "verbose": False, "device": "cpu"}
        scores = model.predict(rgb, conf=0.0, **how)[0].boxes.conf
        least = float(scores.min())
        return fixed(lambda: model.predict(rgb, conf=least, retina_masks=True, **how))

    names = {f"YOLO11{size}-seg, torch fp32": f"yolo11{size}-seg.yaml" for size in ("s", "x")}
    return {name: job(YOLO(file, verbose=False)) for name, file in names.items()}


def rfdetr_jobs(rgb: Any) -> dict[str, Job]:
    """RF-DETR-Seg at its own resolution, and near ours (a multiple of 24)."""
    from rfdetr import RFDETRSegSmall

    jobs: dict[str, Job] = {}
    for side in (0, 648):
        size = {"resolution": side, "positional_encoding_size": side // 12} if side else {}
        model = RFDETRSegSmall(pretrain_weights=None, **size)
        name = f"RF-DETR-Seg small at {model.model_config.resolution} px, torch fp32"
        jobs[name] = fixed(partial(model.predict, rgb, threshold=0.0))
    return jobs


def our_jobs(rgb: Any, args: argparse.Namespace) -> tuple[dict[str, Job], dict[str, str]]:
    """Our rows, and why some are missing."""
    jobs: dict[str, Job] = {}
    refused = {}
    folders = {}
    for size in dict.fromkeys(size for size, _ in OURS.values()):
        parts = bundles.random_parts(size, tote=SIDE, crop=224)
        folders[size] = str(bundles.write(parts, args.work / f"{size}-{SIDE}"))
    for name, (size, wanted) in OURS.items():
        config = RuntimeConfig(
            bundle=folders[size], threads=args.threads, allow_untrained=True, **wanted
        )
        try:
            jobs[name] = Workload(Perceiver(config), [rgb], 0, score_min=0.0)
        except RobollmError as e:
            refused[name] = e.what
    return jobs, refused


def measure(args: argparse.Namespace, torch: Any) -> dict[str, Any]:
    """All of them in turns."""
    rgb = bundles.drawn(1, (SIDE, SIDE))[0]
    jobs = mmdet_jobs(rgb, args, torch)
    ours, refused = our_jobs(rgb, args)
    operators: dict[str, Any] = {}
    if importlib.util.find_spec("torchvision"):
        operators["torchvision"] = lend_torchvision_operators(torch)
    for package, more in {"ultralytics": yolo_jobs, "rfdetr": rfdetr_jobs}.items():
        if importlib.util.find_spec(package) is None:
            refused[package] = "not installed"
            continue
        try:
            found = more(rgb)
            for job in found.values():
                job(0)
        except Exception as e:  # somebody else's package: whatever it raises is the answer
            refused[package] = f"{type(e).__name__}: {str(e).splitlines()[0][:200]}"
        else:
            jobs |= found
    torch.set_num_threads(args.threads)  # a package may have changed it
    jobs |= ours
    meter = Meter()
    jobs[REFERENCE] = meter.metered(jobs[REFERENCE])
    times = interleave(jobs, rounds=args.rounds, warm_up=1)
    rows: dict[str, dict[str, Any]] = {**table(times, REFERENCE)}
    meter.bound(rows, [name for name in rows if name.startswith("Mask R-CNN")])
    for name, job in ours.items():
        if isinstance(job, Workload):
            rows[name]["instances"] = job.instances()
    operators["mmcv"] = meter.about()
    return {"picture": f"{SIDE}x{SIDE}", "operators": operators, "rows": rows, "refused": refused}


def main() -> int:
    """Measure and write."""
    parser = kit.options(__doc__, "peers", ("segmentation",), rounds=5)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = kit.parse(parser)
    os.environ |= {"YOLO_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}  # no weights are fetched
    torch = kit.use_torch(args.threads, args.work)
    packages = ("ultralytics", "rfdetr", "mmdet", "torchvision")
    versions = kit.machine(packages)["packages"]
    results = kit.Results(args, reference=REFERENCE, packages=versions)
    results.run("segmentation", lambda: measure(args, torch))
    for _, found in results.measured():
        kit.print_rows(found["rows"], ("p50_ms", "p95_ms", "cpu_ms", "ratio", "ratio_bound"))
        print(found["refused"])
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
