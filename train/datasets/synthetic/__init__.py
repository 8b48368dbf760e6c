"""Synthetic labelled photos, drawn from icons and silhouettes, for training and demos without a download."""
