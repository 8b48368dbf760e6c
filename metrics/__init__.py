"""Metrics of multi-label scores: average precision, top-k precision and recall, and bootstrap intervals of both."""
