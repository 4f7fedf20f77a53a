"""Trains on two CPU cores in minutes.

Unlike RoboLLM it looks at the outline's box alone: at 64 px there is nothing to waste.
"""

_base_ = "identification_beit3-base_armbench.py"
_size = 64

model = {
    "encoder": {"variant": "tiny", "drop_path": 0.0, "grid": _size // 16},
    "heads": {"identification": {"dim": 128, "embed_dim": 128, "pool": "mean"}},
}
train_dataloader = {"batch_size": 32, "dataset": {"size": _size, "crop": "segment"}}
val_dataloader = {
    "batch_size": 64,
    "dataset": {"size": _size, "crop": "segment", "val_picks": 0},
}
train_cfg = {"max_epochs": 0, "max_steps": 400, "val_epochs": 0, "val_steps": 100}
optim_wrapper = {"amp": "", "optimizer": {"lr": 1e-3}, "paramwise_cfg": {"layer_decay": 1.0}}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "end": 20, "by_epoch": False},
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False},
]
select = {"patience": 0}
