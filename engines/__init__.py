"""Model files and the engines that run them: an ONNX network with its manifest in, scores out. No torch."""
