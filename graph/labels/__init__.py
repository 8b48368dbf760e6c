"""Label sets: reading them, linking each label to a WordNet synset, and reporting what the links mean."""
