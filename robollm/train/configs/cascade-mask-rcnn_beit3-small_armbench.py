"""A small detector, trained from scratch on a CPU core in most of an hour; one class.

One box stage and few RoIs, no stride 4, an auxiliary dense loss: see docs/detector.md. Run one
process per core, one thread each.
"""

_base_ = ["./_base_/detector.py"]

strides = [8, 16, 32, 64]
roi_layer = {
    "type": "SingleRoIExtractor",
    "out_channels": 128,
    "featmap_strides": strides[:-1],
    "finest_scale": 40,  # RoIs under 80 px are taken from stride 8
}
assigner = {
    "type": "MaxIoUAssigner",
    "match_low_quality": False,
    "ignore_iof_thr": 0.5,
}
sampler = {"type": "RandomSampler", "neg_pos_ub": -1}
canvas_hw = (256, 320)

model = {
    "data_preprocessor": {"pad_size_divisor": 32},
    "backbone": {"encoder": {"variant": "small256"}},
    "neck": {"in_channels": 256, "out_channels": 128, "strides": strides},
    "dense_head": {"type": "DenseHead", "in_channels": 128, "stride": 8},
    "rpn_head": {
        "in_channels": 128,
        "feat_channels": 128,
        "num_convs": 1,
        "anchor_generator": {"scales": [3.2], "strides": strides},  # 26 to 205 px
        "loss_bbox": {"_delete_": True, "type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1.0},
    },
    "roi_head": {
        "num_stages": 1,
        "stage_loss_weights": [1],
        "bbox_roi_extractor": {
            **roi_layer,
            "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
        },
        "bbox_head": [
            {
                "type": "Shared2FCBBoxHead",
                "in_channels": 128,
                "fc_out_channels": 256,
                "roi_feat_size": 7,
                "num_classes": 1,
                "reg_class_agnostic": True,
                "bbox_coder": {
                    "type": "DeltaXYWHBBoxCoder",
                    "target_means": [0.0] * 4,
                    "target_stds": [0.1, 0.1, 0.2, 0.2],
                },
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
                "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 2.0},
            }
        ],
        "mask_roi_extractor": {
            **roi_layer,
            "roi_layer": {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 1},
        },
        "mask_head": {
            "num_convs": 2,
            "in_channels": 128,
            "conv_out_channels": 128,
            "norm_cfg": {"_delete_": True, "type": "GN", "num_groups": 16},
        },
    },
    "train_cfg": {
        "rpn": {
            "assigner": {"pos_iou_thr": 0.6},
            "sampler": {"num": 96},
            "allowed_border": 0,
        },
        "rpn_proposal": {"nms_pre": 300, "max_per_img": 100},
        "rcnn": [
            {
                "assigner": {
                    **assigner,
                    "pos_iou_thr": 0.5,
                    "neg_iou_thr": 0.5,
                    "min_pos_iou": 0.5,
                },
                "sampler": {
                    **sampler,
                    "num": 48,
                    "pos_fraction": 0.33,
                    "add_gt_as_proposals": True,
                },
                "mask_size": 28,
                "pos_weight": -1,
                "debug": False,
            }
        ],
    },
    "test_cfg": {
        "rpn": {"nms_pre": 300, "max_per_img": 100},
        "rcnn": {"max_per_img": 60},
    },
}

train_dataloader = {
    "batch_sampler": {"batch_size": 4},
    "dataset": {
        "canvas_hw": canvas_hw,
        "min_area": 80.0,
        "jitter": {
            "scale": (0.85, 1.3),
            "flip": 0.5,
            "vertical_flip": 0.5,
            "brightness": 0.25,
            "contrast": 0.3,
            "channels": 0.1,
        },
    },
}
val_dataloader = {
    "batch_size": 4,
    "dataset": {"canvas_hw": canvas_hw, "min_area": 80.0},
}
val_evaluator = {"groups": (5, 12)}

train_cfg = {"_delete_": True, "type": "StepLoop", "max_steps": 2400, "val_steps": 400}
select = {"patience": 0}
optim_wrapper = {
    "optimizer": {"lr": 4e-4, "betas": (0.9, 0.99), "weight_decay": 0.05},
    "clip_grad": {"max_norm": 5.0},
    "paramwise_cfg": {"layer_decay": 1.0},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 150},
    {
        "type": "CosineAnnealingLR",
        "eta_min_ratio": 0.01,
        "by_epoch": False,
        "begin": 0.6,  # floats are shares of all steps
        "end": 1.0,
    },
]
custom_hooks = [{"type": "EMAHook", "momentum": 0.003}]

del strides, roi_layer, assigner, sampler, canvas_hw
