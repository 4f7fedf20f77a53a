"""Identification of the default bundle, tote-small: three pictures of a pick, on simulated data.

Its encoder is the detector's, see multitask_tote-small_sim.py. Pictures are never mirrored: print
isn't. References are cut to what differs from their backdrop, as picks are to their outline.
"""

_base_ = "identification_beit3-small_armbench.py"
_size = 112
_views = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")
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
_light = {"brightness": 0.15, "contrast": 0.15, "camera": _camera}

model = {
    "encoder": {"variant": "small256", "grid": _size // 16},
    "heads": {"identification": {"dim": 256, "views": len(_views), "hidden": 256}},
}
train_dataloader = {
    "dataset": {
        "size": _size,
        "views": _views,
        "view_dropout": 0.3,
        "loose": 1.0,
        "reference_crop": "content",
        "tote_samples": 2,
        "augment": {
            **_light,
            "scale": (0.6, 1.0),
            "flip": 0.0,
            "quarter_turns": True,
            "degrees": 10.0,
            "erase": 0.3,
        },
        "reference_augment": {**_light, "scale": (0.7, 1.0), "ratio": (0.75, 1.333), "erase": 0.1},
    },
}
val_dataloader = {"dataset": {"size": _size, "views": _views, "reference_crop": "content"}}
