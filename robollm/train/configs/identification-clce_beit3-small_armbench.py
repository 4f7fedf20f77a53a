"""CLCE (thesis eq. 5.2-5.4). `classes`: at least as many as there are products in all splits."""

_base_ = "identification_beit3-small_armbench.py"

model = {
    "heads": {
        "identification": {
            "loss": {
                "_delete_": True,
                "type": "CLCELoss",
                "classes": 1024,
                "dim": 128,
                "weight": 0.9,
                "temperature": 0.5,
                "gather": True,
            }
        }
    }
}
