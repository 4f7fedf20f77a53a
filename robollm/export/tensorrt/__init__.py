"""TensorRT: what of an ONNX graph it takes, and the commands that build engines from it."""
