"""Identification of the default bundle, tote-small: three pictures of a pick, on simulated data.

Its encoder is the detector's, see multitask_tote-small_sim.py. Pictures are never mirrored: print
isn't. References are cut to what differs from their backdrop, as picks are to their outline.
"""

_base_ = "identification_beit3-small_armbench.py"
_size = 112
_views = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")
_light = {"brightness": 0.3, "contrast": 0.25, "channels": 0.12}

model = {"heads": {"identification": {"dim": 256, "views": len(_views), "hidden": 256}}}
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
