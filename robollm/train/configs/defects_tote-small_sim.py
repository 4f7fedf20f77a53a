"""Defects of the default bundle, tote-small: single pictures after the pick, on simulated data.

Its encoder is the detector's, see multitask_tote-small_sim.py.
"""

_base_ = "defects_beit3-small_armbench.py"
_size = 112

model = {"heads": {"defects": {"in_channels": 256}}}
train_dataloader = {
    "batch_size": 32,
    "dataset": {
        "size": _size,
        "loose": 1.0,
        "augment": {
            "scale": (0.8, 1.0),
            "degrees": 10.0,
            "brightness": 0.3,
            "contrast": 0.25,
            "channels": 0.12,
        },
    },
}
val_dataloader = {"dataset": {"size": _size}}
