"""The small one with three pictures of a pick."""

_base_ = "identification_beit3-small_armbench.py"
_views = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")

model = {"heads": {"identification": {"views": len(_views), "hidden": 256}}}
train_dataloader = {"dataset": {"views": _views, "view_dropout": 0.2}}
val_dataloader = {"dataset": {"views": _views}}
