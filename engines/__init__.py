"""Engines: run a model file or a TensorRT plan, images in and scores out, without torch."""
