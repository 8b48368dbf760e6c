"""`mlzsl thresholds`: chooses the threshold of each label on labelled photos, and predicts those of the others."""
