"""The detector of the default bundle, tote-small: first step of its training, on simulated totes.

As cascade-mask-rcnn_beit3-small_armbench-object.py, with more augmentation: none of it is tied to a
renderer. The rate stays constant: multitask_tote-small_sim.py goes on from here.
"""

_base_ = ["./cascade-mask-rcnn_beit3-small_armbench-object.py"]

train_dataloader = {
    "dataset": {
        "jitter": {
            "scale": (0.65, 1.35),
            "brightness": 0.1,
            "contrast": 0.2,
            "channels": 0.08,
            "paste": 0.3,
            "paste_most": 4,
            "background": 0.2,
            "erase": 0.1,
            "camera": {
                "motion": 0.05,
                "blur": 0.12,
                "low": 0.12,
                "exposure": 0.3,
                "saturation": 0.25,
                "hue": 0.15,
                "vignette": 0.15,
                "noise": 0.25,
                "noise_sigma": (0.005, 0.03),
                "gamma": 0.25,
                "jpeg": 0.2,
            },
        }
    }
}
val_dataloader = {"dataset": {"limit": 120}}
train_cfg = {"max_steps": 4000, "val_steps": 500}
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
