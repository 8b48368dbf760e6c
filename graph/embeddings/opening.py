"""Opening label embeddings by name, or from a file or folder."""

from pathlib import Path

from mlzsl.graph.embeddings.source import MINILM, SENTENCE, TAXONOMY, Embeddings


def open_embeddings(spec: str) -> Embeddings:
    """Open the embeddings that `spec` names.

    Args:
        spec: `taxonomy` (computed from WordNet), `minilm` (shipped sentence vectors), `sentence` (all-MiniLM-L6-v2),
            `sentence:FOLDER` (a sentence model), or the path of a text file, `.npy` or `.safetensors` of vectors.

    Raises:
        UsageError: there is no such file or model, or the extra that it needs is not installed.
    """
    if spec == TAXONOMY:
        from mlzsl.graph.embeddings.taxonomy import TaxonomyEmbeddings

        return TaxonomyEmbeddings()
    if spec == MINILM:
        from mlzsl.graph.embeddings.minilm import MinilmEmbeddings

        return MinilmEmbeddings()
    name, colon, folder = spec.partition(":")
    if name == SENTENCE:
        from mlzsl.graph.embeddings.sentence import open_sentence_embeddings

        return open_sentence_embeddings(folder if colon else None)
    from mlzsl.graph.embeddings.arrays import SUFFIXES, read_array
    from mlzsl.graph.embeddings.text import TextEmbeddings, read_vectors

    return TextEmbeddings(spec, read=read_array if Path(spec).suffix in SUFFIXES else read_vectors)
