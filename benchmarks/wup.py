"""Is our WUP similarity equal to nltk's on every pair of coco80 ∪ nuswide81 ∪ imagenet1k, and how much faster?

    python benchmarks/wup.py                              # 100,000 random pairs: half a minute
    python benchmarks/wup.py --pairs all                  # all ordered pairs: some minutes of nltk
    python benchmarks/wup.py --wordnet /usr/share/wordnet # nltk reads a WordNet instead of what the package ships
    python benchmarks/wup.py --classes 22000              # time and memory of a large adjacency besides

Leaves with 1 if a single pair differs or the speed ratio is below 200.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import nltk
import numpy as np
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from rich.console import Console
from rich.table import Table

from mlzsl.cli.progress import progress
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_adjacency, wup_similarity

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for wordnet_format

LABEL_SETS = ("coco80", "nuswide81", "imagenet1k")
LEAST_RATIO = 200
THRESHOLD = 0.5


def main() -> None:
    arguments = _arguments()
    taxonomy = Taxonomy.shipped()
    synsets = sorted({synset for name in LABEL_SETS for synset in load_label_set(name).synsets})
    table = Table("what", "pairs", "seconds", "µs a pair", "different", title="WUP similarity")

    start = time.perf_counter()
    similarities = wup_similarity(taxonomy, synsets)
    ours = (time.perf_counter() - start) / similarities.size
    table.add_row("mlzsl", f"{similarities.size:,}", f"{ours * similarities.size:.2f}", f"{ours * 1e6:.3f}", "")

    with tempfile.TemporaryDirectory() as folder:
        wordnet = _nltk_wordnet(Path(folder), arguments.wordnet, taxonomy)
        pairs = _pairs(arguments.pairs, len(synsets))
        theirs, different = _nltk(wordnet, synsets, pairs, similarities)
    table.add_row("nltk", f"{len(pairs):,}", f"{theirs * len(pairs):.2f}", f"{theirs * 1e6:.1f}", str(different))
    console = Console()
    console.print(table)
    print(f"{len(synsets)} synsets; mlzsl is {theirs / ours:,.0f} times as fast as nltk; {different} pairs differ.")
    if arguments.classes:
        _large(taxonomy, arguments.classes)
    sys.exit(int(different > 0 or theirs / ours < LEAST_RATIO))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="100000", help="how many random pairs nltk computes, or `all`")
    parser.add_argument("--wordnet", type=Path, help="a folder of WordNet 3.0 for nltk to read")
    parser.add_argument("--classes", type=int, default=0, help="also time the adjacency of so many random nouns")
    return parser.parse_args()


def _nltk_wordnet(folder: Path, wordnet: Path | None, taxonomy: Taxonomy) -> WordNetCorpusReader:
    """Open a WordNet with nltk: a given one (Debian's lacks `lexnames`), or our data in its format."""
    from wordnet_format import LEXNAMES, write_wordnet

    corpus = folder / "corpora" / "wordnet"
    corpus.mkdir(parents=True)
    if wordnet:
        for file in wordnet.iterdir():
            if file.is_file():
                (corpus / file.name).write_bytes(file.read_bytes())
        (corpus / "lexnames").write_text(LEXNAMES, encoding="ascii")
    else:
        write_wordnet(taxonomy, corpus)
    nltk.data.path.append(str(folder))  # nltk reads nowhere else
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no other languages
        return WordNetCorpusReader(str(corpus), None)


def _pairs(asked: str, count: int) -> list[tuple[int, int]]:
    if asked == "all":
        return [(i, j) for i in range(count) for j in range(count)]
    chance = random.Random(0)
    return [(chance.randrange(count), chance.randrange(count)) for _ in range(int(asked))]


def _nltk(
    wordnet: WordNetCorpusReader,
    synsets: list[str],
    pairs: list[tuple[int, int]],
    ours: np.ndarray,
) -> tuple[float, int]:
    """Return nltk's seconds a pair, and on how many pairs a single bit differs from ours."""
    nodes = [wordnet.synset(synset) for synset in synsets]
    for node in nodes:
        node.wup_similarity(nodes[0])  # nltk reads hypernyms when first asked; that is not what is timed
    different, seconds = 0, 0.0
    with progress("asking nltk", total=len(pairs), unit="pairs") as bar:
        for first in range(0, len(pairs), 1000):
            chunk = pairs[first : first + 1000]
            start = time.perf_counter()
            theirs = [nodes[i].wup_similarity(nodes[j]) for i, j in chunk]
            seconds += time.perf_counter() - start
            different += sum(value != ours[pair] for value, pair in zip(theirs, chunk, strict=True))
            bar.advance(len(chunk))
    return seconds / len(pairs), different


def _large(taxonomy: Taxonomy, classes: int) -> None:
    synsets = random.Random(0).sample(taxonomy.names, classes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    adjacency = wup_adjacency(taxonomy, synsets, THRESHOLD)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{classes:,} classes: {seconds:.1f} s; memory grew by {grown:,.0f} MiB, "
        f"{adjacency.nbytes / 2**20:,.0f} of them the result; {adjacency.mean():.1%} of all pairs are joined."
    )


if __name__ == "__main__":
    main()
