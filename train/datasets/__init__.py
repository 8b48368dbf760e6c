"""Datasets for training: loaders of the formats that `--data` takes, downloads, and synthetic photos."""
