"""RoboLLM's recipe for identification from the picture before the pick (thesis section 8.4.2).

Init with a published BEiT-3 file: --init beit3_base_itc_patch16_224.pth
"""

_size = 224
_views = ("PickRGB",)

model = {
    "type": "TaskModel",
    "encoder": {"type": "Beit3Encoder", "variant": "base", "drop_path": 0.2},
    "heads": {
        "identification": {
            "type": "IdentificationHead",
            "dim": 768,
            "embed_dim": 768,
            "views": len(_views),
            "loss": {"type": "InfoNCELoss", "gather": True},
        }
    },
}

train_dataloader = {
    "batch_size": 64,
    "dataset": {
        "type": "PickData",
        "data_root": "",
        "split": "train",
        "size": _size,
        "views": _views,
        "fit": "stretch",
        "augment": {"scale": (0.5, 1.0), "ratio": (0.75, 1.333), "flip": 0.5},
    },
    "batch_sampler": {"type": "FamilyBatches", "share": 0.5, "group": 4},
}
val_dataloader = {
    "batch_size": 64,
    "dataset": {
        "type": "PickData",
        "data_root": "",
        "split": "val",
        # Enough to choose a checkpoint; set 0 to measure on all.
        "val_picks": 2000,
        "size": _size,
        "views": _views,
        "fit": "stretch",
    },
}
val_evaluator = {"type": "RetrievalMetric"}

train_cfg = {"type": "StepLoop", "max_epochs": 50, "val_epochs": 1}
val_cfg = {"type": "CheckedValLoop"}
optim_wrapper = {
    "type": "GuardedOptimWrapper",
    "amp": "bfloat16",
    "optimizer": {
        "type": "AdamW",
        "lr": 2e-4,
        "weight_decay": 0.05,
        "betas": (0.9, 0.98),
    },  # betas: BEiT-3's VQA recipe
    "clip_grad": {"max_norm": 3.0},  # ours
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
select = {"metric": "recall@1_container", "rule": "greater", "patience": 5}
randomness = {"seed": 0}
