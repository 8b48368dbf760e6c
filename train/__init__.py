"""Training: from photos and labels to a checkpoint."""
