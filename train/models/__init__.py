"""The models: each scores target labels from a photo's features, external probabilities and a class graph.

There is one module per model, readable beside its section of the paper; `registry` finds a model by its name.
"""
