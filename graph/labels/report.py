"""The label report: where each label of a set stands, and what looks wrong, all at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlzsl.graph.classgraph import THRESHOLD, ClassGraph, build_class_graph
from mlzsl.graph.embeddings.source import Embeddings, Origin
from mlzsl.graph.embeddings.taxonomy import TaxonomyEmbeddings
from mlzsl.graph.labels.files import LabelLine, read_label_file
from mlzsl.graph.labels.linking import LinkedLabel
from mlzsl.graph.labels.sets import NAMED_SETS, LabelSet, link_label_file, load_label_set
from mlzsl.graph.taxonomy import Taxonomy


@dataclass(frozen=True)
class LabelRow:
    """What is known of one label that has a synset."""

    label: str
    synset: str
    gloss: str
    rule: str  # which part of the rule placed it: explicit, known name, first sense, singular
    senses: int  # how many noun senses its name has; 0 for an explicit synset
    vector: Origin | None  # None: the embeddings have nothing for it
    target_neighbours: int
    external_neighbours: int
    duplicate_class: str | None  # the external class of the same synset, which the graph leaves out
    warnings: tuple[str, ...]  # what looks wrong but does not stop anybody


@dataclass(frozen=True)
class LabelReport:
    """The rows of every label that could be placed, and a sentence for everything that stops the set."""

    name: str
    rows: tuple[LabelRow, ...]
    errors: tuple[str, ...]
    embeddings: str
    embeddings_sha256: str
    threshold: float
    external: str
    externals: int  # external classes in the graph
    externals_left_out: int  # those that are the same synset as a label
    external_vectors: dict[str, int]  # how the vectors of the externals were found; "none" where there is none


def report_labels(
    name_or_path: str, embeddings: Embeddings, external: LabelSet | None = None, threshold: float = THRESHOLD
) -> LabelReport:
    """Place every label, look up its vector and count its neighbours; go on where a label fails.

    Args:
        name_or_path: a named label set, or a text file of labels.
        embeddings: whose coverage is reported.
        external: the classes beside the targets; ImageNet's 1,000 when left out.
        threshold: of WUP similarity, above which two classes are neighbours.

    Raises:
        UsageError: the file cannot be read as text at all, or the embeddings file is broken.
    """
    labels, linked, errors = _linked(name_or_path)
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


def _linked(name_or_path: str) -> tuple[LabelSet, list[LinkedLabel], list[str]]:
    """Return the labels that have a synset, how each got it, and a sentence for each line that is unfit."""
    if name_or_path in NAMED_SETS or not Path(name_or_path).exists():
        labels = load_label_set(name_or_path)
        return labels, [LinkedLabel(synset, "explicit", 0) for synset in labels.synsets], []
    file = read_label_file(name_or_path)
    tried, errors = link_label_file(file)
    pairs: list[tuple[LabelLine, LinkedLabel]] = [
        (line, found) for line, found in zip(file.lines, tried, strict=True) if found
    ]
    linked = [found for _, found in pairs]
    labels = LabelSet(file.path, tuple(line.label for line, _ in pairs), tuple(each.synset for each in linked))
    return labels, linked, errors


def _rows(
    labels: LabelSet,
    linked: Sequence[LinkedLabel],
    embeddings: Embeddings,
    graph: ClassGraph,
    external: LabelSet,
) -> tuple[LabelRow, ...]:
    taxonomy = Taxonomy.shipped()
    duplicates = dict(zip(external.synsets, external.labels, strict=True))
    with_synset: dict[str, list[str]] = {}
    for label, synset in zip(labels.labels, labels.synsets, strict=True):
        with_synset.setdefault(synset, []).append(label)
    rows = []
    for node, (label, link) in enumerate(zip(labels.labels, linked, strict=True)):
        origin = embeddings.find(label, link.synset)
        neighbours = int(graph.target_neighbours[node]), int(graph.external_neighbours[node])
        same = [other for other in with_synset[link.synset] if other != label]
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
                duplicate_class=duplicates.get(link.synset),
                warnings=tuple(_warnings(link, origin, same, sum(neighbours))),
            )
        )
    return tuple(rows)


def _warnings(linked: LinkedLabel, origin: Origin | None, same: list[str], neighbours: int) -> list[str]:
    warnings = []
    if linked.rule in ("first sense", "singular") and linked.senses > 1:
        warnings.append(f"ambiguous: the first of {linked.senses} senses")
    if origin is None:
        warnings.append("out of vocabulary")
    elif origin.is_fallback:
        warnings.append(f"out of vocabulary: its {origin.how} {origin.via!r} stands in")
    if same:
        warnings.append(f"duplicate: the same synset as {', '.join(same)}")
    if neighbours == 0:
        warnings.append("isolated: no neighbour in the graph")
    return warnings
