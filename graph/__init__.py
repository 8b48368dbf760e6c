"""WordNet's nouns, label sets linked to them, label embeddings, and the class graph that models are built on."""
