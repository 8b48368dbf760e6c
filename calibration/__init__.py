"""Model files of less precision: an fp32 model file and photos in, the same network in fp16, bf16, INT8 or FP8 out."""
