"""RoboLLM's recipe for defects (thesis section 8.4.2): the annotated box, three classes.

Augmentation and balanced batches are ours; power=0 takes the classes as the data has them.
Init with a published BEiT-3 file: --init beit3_base_patch16_224.pth
"""

_size = 224

model = {
    "type": "TaskModel",
    "encoder": {"type": "Beit3Encoder", "variant": "base", "drop_path": 0.2},
    "heads": {"defects": {"type": "DefectHead", "in_channels": 768, "smoothing": 0.1}},
}

train_dataloader = {
    "batch_size": 64,
    "dataset": {
        "type": "DefectData",
        "data_root": "",
        "split": "train",
        "size": _size,
        "crop": "box",
        "fit": "stretch",
        "augment": {
            "scale": (0.6, 1.0),
            "ratio": (0.75, 1.333),
            "flip": 0.5,
            "brightness": 0.2,
            "contrast": 0.2,
        },
    },
    "batch_sampler": {"type": "BalancedBatches", "power": 1.0},
}
val_dataloader = {
    "batch_size": 64,
    "dataset": {
        "type": "DefectData",
        "data_root": "",
        "split": "val",
        "size": _size,
        "crop": "box",
        "fit": "stretch",
    },
}
val_evaluator = {"type": "DefectMetric"}

train_cfg = {"type": "StepLoop", "max_epochs": 50, "val_epochs": 1}
val_cfg = {"type": "CheckedValLoop"}
optim_wrapper = {
    "type": "GuardedOptimWrapper",
    "amp": "bfloat16",
    "optimizer": {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.05, "betas": (0.9, 0.98)},
    "clip_grad": {"max_norm": 3.0},
    "constructor": "LayerDecay",
    "paramwise_cfg": {"layer_decay": 0.65},
}
# eta_min is 0, so that warm-up and cosine are factors, and a run of any length has both.
param_scheduler = [
    {
        "type": "LinearLR",
        "start_factor": 0.01,
        "end": 3,
        "by_epoch": True,
        "convert_to_iter_based": True,
    },
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False},
]
select = {"metric": "combined_auc", "rule": "greater", "patience": 5}
randomness = {"seed": 0}
