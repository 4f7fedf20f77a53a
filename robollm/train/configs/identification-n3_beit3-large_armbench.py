"""As base, with three pictures of a pick; --init beit3_large_itc_patch16_224.pth."""

_base_ = "identification_beit3-large_armbench.py"
_views = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")

model = {"heads": {"identification": {"views": len(_views), "hidden": 4096}}}
train_dataloader = {"dataset": {"views": _views, "view_dropout": 0.2}}
val_dataloader = {"dataset": {"views": _views}}
