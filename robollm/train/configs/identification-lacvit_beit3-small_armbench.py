"""LaCViT's loss (thesis eq. 5.1) instead of InfoNCE."""

_base_ = "identification_beit3-small_armbench.py"

model = {
    "heads": {
        "identification": {
            "loss": {
                "_delete_": True,
                "type": "LaCViTLoss",
                "temperature": 0.1,
                "gather": True,
            }
        }
    }
}
