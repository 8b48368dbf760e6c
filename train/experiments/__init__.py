"""Experiments: table 1 and figure 3 of the paper, on any dataset."""
