"""Label embeddings, computed from WordNet's hierarchy or read from a text file of word vectors."""
