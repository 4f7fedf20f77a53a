"""RoboLLM's recipe for defects: the annotated box, three classes.

Where a setting comes from is said beside it:
[thesis]: section 8.4.2. [released]: RoboLLM's published code and its command for defects, where the
thesis is silent. [BEiT-3]: BEiT-3's published fine-tuning. [ours]: neither.
Init with a published BEiT-3 file: --init beit3_base_patch16_224.pth
"""

_size = 224  # [released]

model = {
    "type": "TaskModel",
    # drop_path [released]; BEiT-3 classifies with .15
    "encoder": {"type": "Beit3Encoder", "variant": "base", "drop_path": 0.2},
    # cross-entropy [thesis], its smoothing [released]
    "heads": {"defects": {"type": "DefectHead", "in_channels": 768, "smoothing": 0.1}},
}

train_dataloader = {
    "batch_size": 64,  # [thesis]; 128 [released]
    "dataset": {
        "type": "DefectData",
        "data_root": "",
        "split": "train",
        "size": _size,
        "crop": "box",  # [released]
        "fit": "stretch",  # [released]
        "augment": {  # random crop (from .5) and flip [released]; the rest [ours]
            "scale": (0.6, 1.0),
            "ratio": (0.75, 1.333),
            "flip": 0.5,
            "brightness": 0.2,
            "contrast": 0.2,
        },
    },
    # [ours]; power=0 takes the classes as the data has them
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

# 50 epochs [thesis]; 30 [released]
train_cfg = {"type": "StepLoop", "max_epochs": 50, "val_epochs": 1}
val_cfg = {"type": "CheckedValLoop"}
optim_wrapper = {
    "type": "GuardedOptimWrapper",
    "amp": "bfloat16",  # [ours]
    # lr [thesis]; weight decay [released] and [BEiT-3]. betas: [BEiT-3] for questions about images;
    # [released] and BEiT-3's classification have (.9, .999)
    "optimizer": {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.05, "betas": (0.9, 0.98)},
    "clip_grad": {"max_norm": 3.0},  # [ours]; neither [released] nor [BEiT-3] clips
    "constructor": "LayerDecay",
    "paramwise_cfg": {"layer_decay": 0.65},  # [released] and [BEiT-3]
}
# 3 epochs of warm-up, then a cosine [released]; BEiT-3 classifies with 5, and both end at 1e-6.
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
# patience [thesis]; the metric [ours]
select = {"metric": "combined_auc", "rule": "greater", "patience": 5}
randomness = {"seed": 0}
