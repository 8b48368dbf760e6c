"""The training pipeline from photos to a checkpoint, and the training loop on one or several processes."""
