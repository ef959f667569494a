"""Published models as ONNX files. Needs torch."""
