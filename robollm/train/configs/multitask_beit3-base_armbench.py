"""One BEiT-3 Base encoder for all three tasks (thesis section 8.3), in turns.

The thesis fine-tunes one encoder per task; that all share one is ours. With --set model.adapters={}
the encoder stays as it is, and each task gets MultiWay-Adapters of its own (thesis chapter 6).
"""

from robollm.train.config import join_tasks

_base_ = ["./_base_/multitask.py"]

_joined = join_tasks("base", turns={"segmentation": 2, "identification": 1, "defects": 1})

model = {**_joined["model"], "weights": {"segmentation": 1, "identification": 1, "defects": 1}}
train_dataloader = _joined["train_dataloader"]
val_dataloader = _joined["val_dataloader"]
val_evaluator = _joined["val_evaluator"]

train_cfg = {"max_epochs": 50, "val_epochs": 1}
optim_wrapper = {
    "optimizer": {"lr": 2e-4},
    "clip_grad": {"max_norm": 3.0},
    "paramwise_cfg": {"layer_decay": 0.7},
}
param_scheduler = [
    {
        "type": "LinearLR",
        "start_factor": 0.01,
        "end": 1,
        "by_epoch": True,
        "convert_to_iter_based": True,
    },
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False},
]
custom_hooks = [{"type": "EMAHook", "momentum": 0.0002}]

del join_tasks
