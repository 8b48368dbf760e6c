"""Frozen ImageNet classifiers that turn images into features and external-class logits, and their weights."""
