"""Opening label embeddings by name: the taxonomy, or a text file of word vectors."""

from mlzsl.graph.embeddings.source import TAXONOMY, Embeddings


def open_embeddings(spec: str) -> Embeddings:
    """The embeddings that `spec` names: `taxonomy` (the default, no download), or the path of a text file.

    Raises:
        UsageError: there is no such file.
    """
    if spec == TAXONOMY:
        from mlzsl.graph.embeddings.taxonomy import TaxonomyEmbeddings

        return TaxonomyEmbeddings()
    from mlzsl.graph.embeddings.text import TextEmbeddings

    return TextEmbeddings(spec)
