"""Trains on two CPU cores in minutes. What it changes is ours.

From random weights small patches and light augmentation learn faster. To begin with a detector's
encoder (--init), set its variant, patch and size.
"""

_base_ = "defects_beit3-base_armbench.py"
_size = 64

model = {
    "encoder": {"variant": "tiny", "depth": 3, "patch": 8, "grid": _size // 8, "drop_path": 0.1},
    "heads": {"defects": {"in_channels": 128}},
}
train_dataloader = {
    "batch_size": 16,
    "dataset": {
        "size": _size,
        "augment": {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)},
    },
}
val_dataloader = {"batch_size": 64, "dataset": {"size": _size}}
train_cfg = {"max_epochs": 0, "max_steps": 600, "val_epochs": 0, "val_steps": 100}
optim_wrapper = {
    "amp": "",
    "optimizer": {"lr": 5e-4},
    "paramwise_cfg": {"layer_decay": 1.0},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "end": 50, "by_epoch": False},
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False},
]
select = {"patience": 0}
