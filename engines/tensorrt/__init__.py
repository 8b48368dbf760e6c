"""TensorRT and TensorRT-RTX: build plans from model files, and run them on NVIDIA GPUs."""
