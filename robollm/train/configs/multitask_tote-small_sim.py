"""The default bundle, tote-small: one encoder for three tasks, from its detector; simulated data.

`--init` and `--set model.heads.segmentation.init_checkpoint=` take the best.pth of
cascade-mask-rcnn_tote-small_sim.py. Run one process per core, one thread each.
"""

from robollm.train.config import join_tasks

_base_ = ["./_base_/multitask.py"]

steps = 6000
_joined = join_tasks(
    {
        "segmentation": "cascade-mask-rcnn_tote-small_sim",
        "identification": "identification_tote-small_sim",
        "defects": "defects_tote-small_sim",
    },
    turns={"segmentation": 4, "identification": 3, "defects": 3},
    batch_sizes={"segmentation": 4, "identification": 32, "defects": 32},
)

# Unweighted, the encoder's gradients have norms of .9, 1.5 and .4: Adam would follow one task.
model = {**_joined["model"], "weights": {"segmentation": 1.5, "identification": 1, "defects": 3}}
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
    {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": 0.02},
    {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False, "begin": 0.5},
]
custom_hooks = [{"type": "EMAHook", "momentum": 0.003}]
select = {
    "metric": [
        "segmentation/object_only_mask_mAP50",
        "identification/recall@1_container",
        "defects/mean_recall",
    ],
    "patience": 0,
}

del join_tasks, steps
