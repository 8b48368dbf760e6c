"""Export: a checkpoint and a label set become one checked ONNX model file."""
