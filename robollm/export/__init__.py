"""Models as ONNX graphs, and the folders (bundles) in which they travel."""
