"""What all configs of several tasks share: how the best is chosen, and that tasks take turns."""

train_cfg = {"type": "StepLoop"}
optim_wrapper = {
    "type": "GuardedOptimWrapper",
    "amp": "bfloat16",
    "optimizer": {"type": "AdamW", "betas": (0.9, 0.999), "weight_decay": 0.05},
    "constructor": "LayerDecay",
}
select = {
    "metric": [
        "segmentation/class_agnostic_mask_mAP50",
        "identification/recall@1_container",
        "defects/mean_recall",
    ],
    "rule": "greater",
    "patience": 5,
}
find_unused_parameters = True  # each step is one task's
randomness = {"seed": 0}
