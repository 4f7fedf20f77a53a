"""The detector: Cascade Mask R-CNN of MMDetection on BEiT-3 and ViTDet's simple pyramid."""
