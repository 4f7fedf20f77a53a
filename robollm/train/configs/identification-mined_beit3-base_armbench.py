"""Hard negatives are the products that the model itself confuses, instead of families by title."""

_base_ = "identification_beit3-base_armbench.py"

train_dataloader = {
    "batch_sampler": {
        "_delete_": True,
        "type": "MinedBatches",
        "share": 0.5,
        "group": 4,
        "keep": 16,
    }
}
custom_hooks = [{"type": "MineNegatives", "every": 500, "ahead": 64}]
