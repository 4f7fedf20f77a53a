"""RoboLLM with three pictures of a pick: one before it, two after it."""

_base_ = "identification_beit3-base_armbench.py"
_views = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")

model = {"heads": {"identification": {"views": len(_views), "hidden": 3072}}}
train_dataloader = {"dataset": {"views": _views, "view_dropout": 0.2}}
val_dataloader = {"dataset": {"views": _views}}
