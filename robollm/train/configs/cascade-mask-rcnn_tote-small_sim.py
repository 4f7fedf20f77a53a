"""The detector of the default bundle, tote-small: first step of its training, on simulated totes.

As cascade-mask-rcnn_beit3-small_armbench-object.py, with more augmentation: none of it is tied to a
renderer. The rate stays constant: multitask_tote-small_sim.py goes on from here.
"""

_base_ = ["./cascade-mask-rcnn_beit3-small_armbench-object.py"]

train_dataloader = {
    "dataset": {"jitter": {"scale": (0.55, 1.4), "brightness": 0.35, "channels": 0.15}}
}
val_dataloader = {"dataset": {"limit": 200}}
train_cfg = {"max_steps": 8000, "val_steps": 1000}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 150},
    {
        "type": "CosineAnnealingLR",
        "eta_min_ratio": 0.01,
        "by_epoch": False,
        "begin": 0.9,
        "end": 1.0,
    },
]
