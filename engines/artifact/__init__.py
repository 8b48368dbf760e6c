"""Engine files: the model file with its manifest, and the TensorRT plan with the manifest beside it."""
