"""SCL-RHE (thesis eq. 5.9-5.19), which bears wrong labels."""

_base_ = "identification_beit3-small_armbench.py"

model = {
    "heads": {
        "identification": {
            "loss": {
                "_delete_": True,
                "type": "SCLRHELoss",
                "temperature": 0.5,
                "gather": True,
            }
        }
    }
}
