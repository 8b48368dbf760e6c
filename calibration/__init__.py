"""Calibration: converts an fp32 model file to fp16, bf16, INT8 or FP8, and measures the accuracy drop on photos."""
