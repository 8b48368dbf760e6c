"""Downloads of public datasets and word vectors: the command `mlzsl-fetch`."""
