"""Folding: exact algebra that turns a trained model and a fixed class graph into constants and few products."""
