"""One small encoder for three tasks, on a CPU core in an hour or so; half the steps are totes."""

from robollm.train.config import join_tasks

_base_ = ["./_base_/multitask.py"]

steps = 4800
_joined = join_tasks(
    "small",
    turns={"segmentation": 2, "identification": 1, "defects": 1},
    batch_sizes={"segmentation": 4, "identification": 32, "defects": 16},
)

model = {**_joined["model"], "weights": {"segmentation": 1, "identification": 1, "defects": 1}}
train_dataloader = _joined["train_dataloader"]
val_dataloader = _joined["val_dataloader"]
val_evaluator = _joined["val_evaluator"]

train_cfg = {"max_steps": steps, "val_steps": steps // 6}
optim_wrapper = {
    "optimizer": {"lr": 4e-4, "betas": (0.9, 0.99)},
    "clip_grad": {"max_norm": 5.0},
    "paramwise_cfg": {"layer_decay": 1.0},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": 0.03},
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False, "begin": 0.6},
]
custom_hooks = [{"type": "EMAHook", "momentum": 0.003}]
select = {"patience": 0}

del join_tasks, steps
