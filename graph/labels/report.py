"""The label report: the synset, vector and neighbours of every label of a set, with all warnings and errors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlzsl.graph.classgraph import THRESHOLD, ClassGraph, build_class_graph
from mlzsl.graph.embeddings.source import Embeddings, Origin
from mlzsl.graph.embeddings.taxonomy import TaxonomyEmbeddings
from mlzsl.graph.labels.linking import LinkedLabel
from mlzsl.graph.labels.sets import NAMED_SETS, LabelSet, link_label_file, load_label_set, read_label_file
from mlzsl.graph.taxonomy import Taxonomy


@dataclass(frozen=True)
class LabelRow:
    """What is known of one label that has a synset."""

    label: str
    synset: str
    gloss: str
    rule: str  # which linking rule applied: explicit, known name, first sense, singular
    senses: int  # noun senses of its name in WordNet; 0 for an explicit synset
    vector: Origin | None  # None: the embeddings have no vector for it
    target_neighbours: int
    external_neighbours: int
    duplicate_class: str | None  # the external class of the same synset, which the graph leaves out
    warnings: tuple[str, ...]  # what may be wrong; the label can be used all the same


@dataclass(frozen=True)
class LabelReport:
    """A row for every label that has a synset, and a sentence for everything that makes the set unusable."""

    name: str
    rows: tuple[LabelRow, ...]
    errors: tuple[str, ...]
    embeddings: str
    embeddings_sha256: str
    threshold: float
    external: str
    externals: int  # external classes in the graph
    externals_left_out: int  # those that have the synset of a label
    external_vectors: dict[str, int]  # counts of external classes by how their vector was found


def report_labels(
    name_or_path: str, embeddings: Embeddings, external: LabelSet | None = None, threshold: float = THRESHOLD
) -> LabelReport:
    """Link every label, look up its vector and count its neighbours; collect errors instead of stopping at the first.

    Args:
        name_or_path: a named label set, or a text file of labels.
        embeddings: whose coverage is reported.
        external: the external classes; ImageNet's 1,000 by default.
        threshold: of WUP similarity, above which two classes are neighbours.

    Raises:
        UsageError: the file is not readable text, or the embeddings file is broken.
    """
    labels, linked, errors = _link(name_or_path)
    external = external or load_label_set("imagenet1k")
    graph = build_class_graph(labels, (), external, TaxonomyEmbeddings(), threshold)
    embeddings.preload(labels, external)
    rows = _rows(labels, linked, embeddings, graph, external)
    errors += [
        f"{name_or_path}: the label {row.label!r} is out of vocabulary: {embeddings.source.name} has neither its "
        "name nor a synonym nor a hypernym; choose a file with more words, or `taxonomy`."
        for row in rows
        if row.vector is None
    ]
    externals = zip(graph.externals, graph.external_synsets, strict=True)
    origins = [embeddings.find(label, synset) for label, synset in externals]
    return LabelReport(
        name=name_or_path,
        rows=rows,
        errors=tuple(errors),
        embeddings=embeddings.source.name,
        embeddings_sha256=embeddings.source.sha256,
        threshold=threshold,
        external=external.name,
        externals=len(graph.externals),
        externals_left_out=len(external) - len(graph.externals),
        external_vectors=dict(Counter(origin.how if origin else "none" for origin in origins)),
    )


def _link(name_or_path: str) -> tuple[LabelSet, list[LinkedLabel], list[str]]:
    """The labels that have a synset, how each was linked, and a sentence for each invalid line."""
    if name_or_path in NAMED_SETS or not Path(name_or_path).exists():
        labels = load_label_set(name_or_path)
        return labels, [LinkedLabel(synset, "explicit", 0) for synset in labels.synsets], []
    file = read_label_file(name_or_path)
    links, errors = link_label_file(file)
    pairs = [(line.label, link) for line, link in zip(file.lines, links, strict=True) if link]
    labels = LabelSet(file.path, tuple(label for label, _ in pairs), tuple(link.synset for _, link in pairs))
    return labels, [link for _, link in pairs], errors


def _rows(
    labels: LabelSet, linked: Sequence[LinkedLabel], embeddings: Embeddings, graph: ClassGraph, external: LabelSet
) -> tuple[LabelRow, ...]:
    taxonomy = Taxonomy.shipped()
    external_by_synset = dict(zip(external.synsets, external.labels, strict=True))
    by_synset: dict[str, list[str]] = {}
    for label, synset in zip(labels.labels, labels.synsets, strict=True):
        by_synset.setdefault(synset, []).append(label)
    rows = []
    for node, (label, link) in enumerate(zip(labels.labels, linked, strict=True)):
        origin = embeddings.find(label, link.synset)
        neighbours = int(graph.target_neighbours[node]), int(graph.external_neighbours[node])
        same_synset = [other for other in by_synset[link.synset] if other != label]
        rows.append(
            LabelRow(
                label=label,
                synset=link.synset,
                gloss=taxonomy.gloss(link.synset),
                rule=link.rule,
                senses=link.senses,
                vector=origin,
                target_neighbours=neighbours[0],
                external_neighbours=neighbours[1],
                duplicate_class=external_by_synset.get(link.synset),
                warnings=tuple(_warnings(link, origin, same_synset, sum(neighbours))),
            )
        )
    return tuple(rows)


def _warnings(link: LinkedLabel, origin: Origin | None, same_synset: list[str], neighbours: int) -> list[str]:
    warnings = []
    if link.rule in ("first sense", "singular") and link.senses > 1:
        warnings.append(f"ambiguous: the first of {link.senses} senses")
    if origin is None:
        warnings.append("out of vocabulary")
    elif origin.is_fallback:
        warnings.append(f"out of vocabulary: the vector is that of its {origin.how} {origin.via!r}")
    if same_synset:
        warnings.append(f"duplicate: the same synset as {', '.join(same_synset)}")
    if neighbours == 0:
        warnings.append("isolated: no neighbour in the graph")
    return warnings
