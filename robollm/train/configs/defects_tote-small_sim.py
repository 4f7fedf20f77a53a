"""Defects of the default bundle, tote-small: single pictures after the pick, on simulated data.

Its encoder is the detector's, see multitask_tote-small_sim.py.
"""

_base_ = "defects_beit3-small_armbench.py"
_size = 112
_camera = {
    "motion": 0.05,
    "blur": 0.15,
    "low": 0.15,
    "low_factor": (0.35, 0.9),
    "exposure": 0.3,
    "channels": 0.2,
    "channels_gain": (0.9, 1.1),
    "saturation": 0.2,
    "saturation_times": (0.6, 1.3),
    "hue": 0.1,
    "hue_degrees": (-6, 6),
    "vignette": 0.1,
    "noise": 0.25,
    "noise_sigma": (0.005, 0.03),
    "gamma": 0.25,
    "gamma_power": (0.75, 1.35),
    "jpeg": 0.2,
}

model = {
    "encoder": {"variant": "small256", "depth": 8, "patch": 16, "grid": _size // 16},
    "heads": {"defects": {"in_channels": 256}},
}
train_dataloader = {
    "batch_size": 32,
    "dataset": {
        "size": _size,
        "loose": 1.0,
        "augment": {
            "scale": (0.8, 1.0),
            "degrees": 10.0,
            "brightness": 0.15,
            "contrast": 0.15,
            "camera": _camera,
        },
    },
}
val_dataloader = {"dataset": {"size": _size}}
