"""Cascade Mask R-CNN with ViTDet's settings and RoboLLM's schedule; the encoder is left open.

[V] ViTDet, arXiv:2203.16527, and detectron2's projects/ViTDet: heads, anchors, assigners, samplers
    and tests are its own, unless another mark stands beside them.
[R] RoboLLM, thesis chapter 8.  [M] MMDetection's Cascade R-CNN.  [O] ours.
"""

default_scope = "mmdet"
custom_imports = {
    "imports": [
        "robollm.train.detector.cascade",
        "robollm.train.detector.totes",
        "robollm.train.detector.metric",
    ],
    "allow_failed_imports": False,
}

_strides = [4, 8, 16, 32, 64]
_norm: dict[str, object] = {"type": "LayerNorm2d", "eps": 1e-6}


def _roi(size: int, strides: list[int]) -> dict[str, object]:
    """RoIAlign on the four finest levels; 0: as many sampling points as there are cells [V]."""
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
        "out_channels": 256,
        "featmap_strides": strides[:-1],
    }


def _box_head(weights: tuple[int, ...], norm: dict[str, object]) -> dict[str, object]:
    """4 convolutions and 1 layer [V]; a box weight of 10 is a standard deviation of 1/10."""
    return {
        "type": "Shared4Conv1FCBBoxHead",
        "in_channels": 256,
        "conv_out_channels": 256,
        "fc_out_channels": 1024,
        "roi_feat_size": 7,
        "num_classes": 1,
        "norm_cfg": norm,
        "reg_class_agnostic": True,
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder",
            "target_means": [0.0] * 4,
            "target_stds": [1 / w for w in weights],
        },
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},  # [V]; [M] has a smooth one
    }


def _stage(iou: float) -> dict[str, object]:
    return {
        "assigner": {
            "type": "MaxIoUAssigner",
            "pos_iou_thr": iou,
            "neg_iou_thr": iou,
            "min_pos_iou": iou,
            "match_low_quality": False,
            "ignore_iof_thr": 0.5,  # [O]; [V] leaves crowds out
        },
        "sampler": {
            "type": "RandomSampler",
            "num": 512,
            "pos_fraction": 0.25,
            "neg_pos_ub": -1,
            "add_gt_as_proposals": True,
        },
        "mask_size": 28,
        "pos_weight": -1,
        "debug": False,
    }


def _proposals(before: int) -> dict[str, object]:
    return {
        "nms_pre": before,
        "max_per_img": 1000,
        "nms": {"type": "nms", "iou_threshold": 0.7},
        "min_bbox_size": 0,
    }


model = {
    "type": "ToteCascadeRCNN",
    "classes": "agnostic",
    "data_preprocessor": {
        "type": "mmdet.DetDataPreprocessor",
        "mean": [127.5] * 3,  # BEiT-3's
        "std": [127.5] * 3,
        "pad_mask": True,
        "pad_size_divisor": 64,
    },
    "backbone": {"type": "BEiT3Backbone", "encoder": {"type": "Beit3Encoder"}},
    "neck": {
        "type": "SimpleFPN",
        "in_channels": 768,
        "out_channels": 256,
        "strides": _strides,
        "halve": "max_pool",  # [V]; [R] takes a convolution of stride 2: "conv"
    },
    "rpn_head": {
        "type": "RPNHead",
        "in_channels": 256,
        "feat_channels": 256,
        "num_convs": 2,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [8],  # 32 to 512 px
            "ratios": [0.5, 1.0, 2.0],
            "strides": _strides,
        },
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder",
            "target_means": [0.0] * 4,
            "target_stds": [1.0] * 4,
        },
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    },
    "roi_head": {
        "type": "CascadeRoIHead",
        "num_stages": 3,
        # [V] has weights of 1, and a third of the gradient goes on from a stage to the pyramid. So
        # it does here; that the heads get a third, too, is nothing to AdamW. [M] has 1, .5, .25.
        "stage_loss_weights": [1 / 3] * 3,
        "bbox_roi_extractor": _roi(7, _strides),
        "bbox_head": [
            _box_head(w, _norm) for w in ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
        ],
        "mask_roi_extractor": _roi(14, _strides),
        "mask_head": {  # one for each stage [M]; [V] has one
            "type": "FCNMaskHead",
            "num_convs": 4,
            "in_channels": 256,
            "conv_out_channels": 256,
            "num_classes": 1,
            "norm_cfg": _norm,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    },
    "train_cfg": {
        "rpn": {
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.7,
                "neg_iou_thr": 0.3,
                "min_pos_iou": 0.3,
                "match_low_quality": True,
                "ignore_iof_thr": 0.5,  # [O]
            },
            "sampler": {
                "type": "RandomSampler",
                "num": 256,
                "pos_fraction": 0.5,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": False,
            },
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "rpn_proposal": _proposals(2000),
        "rcnn": [_stage(iou) for iou in (0.5, 0.6, 0.7)],
    },
    "test_cfg": {
        "rpn": _proposals(1000),
        "rcnn": {
            "score_thr": 0.05,
            "nms": {"type": "nms", "iou_threshold": 0.5},
            "max_per_img": 100,
            "mask_thr_binary": 0.5,
        },
    },
}

_data = {
    "type": "ToteData",
    "data_root": "",
    "subset": "mix-object-tote",
    "masks": "polygons",
    "classes": "agnostic",
    "canvas_hw": (1024, 1024),
}
train_dataloader = {
    "batch_sampler": {"type": "ShuffledBatches", "batch_size": 8},  # x 8 processes = 64 [R]
    "dataset": {
        **_data,
        "split": "train",
        "jitter": {"scale": (0.1, 2.0), "flip": 0.5},  # [V]
    },
}
val_dataloader = {
    "batch_size": 1,
    "dataset": {**_data, "split": "val"},
}
val_evaluator = {"type": "InstanceMetric", "classes": "agnostic"}

train_cfg = {"type": "StepLoop", "max_epochs": 50, "val_epochs": 1}  # [R]
val_cfg = {"type": "CheckedValLoop"}
select = {"metric": "class_agnostic_mask_mAP50", "rule": "greater", "patience": 5}  # [R]
randomness = {"seed": 0}

optim_wrapper = {
    "type": "GuardedOptimWrapper",
    "amp": "bfloat16",  # [O]; [V] has float16
    "optimizer": {
        "type": "AdamW",
        "lr": 2e-4,  # [R]
        "betas": (0.9, 0.999),  # [V]
        "weight_decay": 0.1,  # [V]; not for norms and positions; nor for biases, which is [O]
    },
    "constructor": "LayerDecay",
    "paramwise_cfg": {"layer_decay": 0.7},  # [V]
}
# [V] keeps its rate until 8/9 of all steps: early stopping would end a run before it ever falls.
# The cosine of BEiT-3's own fine-tuning falls from the start. With eta_min 0 both are factors.
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 250},  # [V]
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False},
]

del _strides, _norm, _data
