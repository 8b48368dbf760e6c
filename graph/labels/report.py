"""The label report: the synset, vector and neighbours of every label of a set, with all warnings and errors."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlzsl.cli.text import first_of
from mlzsl.graph.classgraph import THRESHOLD, ClassGraph, build_class_graph
from mlzsl.graph.embeddings.source import Embeddings, Origin
from mlzsl.graph.embeddings.taxonomy import TaxonomyEmbeddings
from mlzsl.graph.labels.linking import LinkedLabel
from mlzsl.graph.labels.sets import (
    NAMED_SETS,
    LabelLine,
    LabelSet,
    link_label_file,
    linked_labels,
    load_label_set,
    read_label_file,
)
from mlzsl.graph.taxonomy import NoSynsetError, Taxonomy

_Problem = tuple[int, str]  # line, sentence


@dataclass(frozen=True)
class LabelRow:
    """What is known of one label that has a synset, or a vector without one."""

    label: str
    synset: str | None
    gloss: str
    rule: str  # which linking rule applied: explicit, known name, plural, first sense, singular, none
    senses: int  # candidate synsets of its name; 0 for an explicit synset
    alternatives: tuple[str, ...]  # the other candidates
    vector: Origin | None  # None: the embeddings have no vector for it
    target_neighbours: int
    external_neighbours: int
    duplicate_class: str | None  # the external class of the same synset, which the graph leaves out
    warnings: tuple[str, ...]  # what may be wrong; the label can be used all the same


@dataclass(frozen=True)
class LabelReport:
    """A row for every label that can be used, and a sentence for everything that makes the set unusable."""

    name: str
    rows: tuple[LabelRow, ...]
    errors: tuple[str, ...]
    unlinked: tuple[str, ...]  # a sentence for every label without synset and vector, an error unless it is skipped
    embeddings: str
    embeddings_sha256: str
    threshold: float
    external: str
    externals: int  # external classes in the graph
    externals_left_out: int  # those that have the synset of a label
    external_vectors: dict[str, int]  # counts of external classes by how their vector was found


def report_labels(
    name_or_path: str,
    embeddings: Embeddings,
    external: LabelSet | None = None,
    threshold: float = THRESHOLD,
    skip_unlinked: bool = False,
    quiet: bool = True,
) -> LabelReport:
    """Link every label, look up its vector and count its neighbours; collect errors instead of stopping at the first.

    Args:
        name_or_path: a named label set, or a text file of labels.
        embeddings: whose coverage is reported.
        external: the external classes; ImageNet's 1,000 by default.
        threshold: of WUP similarity, above which two classes are neighbours.
        skip_unlinked: labels without a synset are left out, and are no errors.
        quiet: show no progress.

    Raises:
        UsageError: the file is not readable text, or the embeddings file is broken.
    """
    labels, linked, problems, unlinked = _link(name_or_path, skip_unlinked, quiet)
    external = external or load_label_set("imagenet1k")
    graph = build_class_graph(labels, (), external, TaxonomyEmbeddings(), threshold)
    phrases = () if skip_unlinked else tuple(line.label for line, _ in unlinked)
    embeddings.preload(labels, LabelSet("phrases", phrases, (None,) * len(phrases)), external)
    vectors = {phrase: vector for phrase in phrases if (vector := embeddings.find(phrase, None))}
    rows = _rows(labels, linked, embeddings, graph, external)
    rows += tuple(_row_without_synset(line, vectors[line.label]) for line, _ in unlinked if line.label in vectors)
    without_synset = [
        (line.line, f"{name_or_path}, line {line.line}: {error}")
        for line, error in unlinked
        if line.label not in vectors
    ]
    errors = [sentence for _, sentence in sorted(problems + ([] if skip_unlinked else without_synset))]
    errors += [
        f"{name_or_path}: the label {row.label!r} is out of vocabulary: {embeddings.source.name} has no vector "
        "for it; choose a file with more words, or another source with --embeddings."
        for row in rows
        if row.vector is None
    ]
    externals = zip(graph.externals, graph.external_synsets, strict=True)
    origins = [embeddings.find(label, synset) for label, synset in externals]
    return LabelReport(
        name=name_or_path,
        rows=rows,
        errors=tuple(errors),
        unlinked=tuple(sentence for _, sentence in without_synset),
        embeddings=embeddings.source.name,
        embeddings_sha256=embeddings.source.sha256,
        threshold=threshold,
        external=external.name,
        externals=len(graph.externals),
        externals_left_out=len(external) - len(graph.externals),
        external_vectors=dict(Counter(origin.how if origin else "none" for origin in origins)),
    )


def _link(
    name_or_path: str, skip_unlinked: bool, quiet: bool
) -> tuple[LabelSet, list[LinkedLabel], list[_Problem], list[tuple[LabelLine, NoSynsetError]]]:
    """The labels that have a synset, how each was linked, the invalid lines, and the labels without a synset."""
    if name_or_path in NAMED_SETS or not os.path.exists(name_or_path):
        labels = load_label_set(name_or_path, skip_unlinked)
        return labels, [LinkedLabel(synset, "explicit") for synset in labels.synsets if synset], [], []
    file = read_label_file(name_or_path)
    links = link_label_file(file, quiet)
    unlinked = [(line, link) for line, link in zip(file.lines, links, strict=True) if isinstance(link, NoSynsetError)]
    linked = [link for link in links if isinstance(link, LinkedLabel)]
    return linked_labels(file, links), linked, list(file.problems), unlinked


def _rows(
    labels: LabelSet, linked: Sequence[LinkedLabel], embeddings: Embeddings, graph: ClassGraph, external: LabelSet
) -> tuple[LabelRow, ...]:
    taxonomy = Taxonomy.shipped()
    external_by_synset = dict(zip(external.synsets, external.labels, strict=True))
    by_synset: dict[str, list[str]] = {}
    for label, link in zip(labels.labels, linked, strict=True):
        by_synset.setdefault(link.synset, []).append(label)
    target_neighbours, external_neighbours = graph.target_neighbours, graph.external_neighbours
    rows = []
    for node, (label, link) in enumerate(zip(labels.labels, linked, strict=True)):
        origin = embeddings.find(label, link.synset)
        neighbours = int(target_neighbours[node]), int(external_neighbours[node])
        same_synset = [other for other in by_synset[link.synset] if other != label]
        rows.append(
            LabelRow(
                label=label,
                synset=link.synset,
                gloss=taxonomy.gloss(link.synset),
                rule=link.rule,
                senses=len(link.candidates),
                alternatives=link.alternatives,
                vector=origin,
                target_neighbours=neighbours[0],
                external_neighbours=neighbours[1],
                duplicate_class=external_by_synset.get(link.synset),
                warnings=tuple(_warnings(link, origin, same_synset, sum(neighbours))),
            )
        )
    return tuple(rows)


def _row_without_synset(line: LabelLine, vector: Origin) -> LabelRow:
    found = f"{line.synset} does not exist" if line.synset else "no synset"
    warning = f"{found}: for models without a class graph only"
    return LabelRow(line.label, None, "", "none", 0, (), vector, 0, 0, None, (warning,))


def _warnings(link: LinkedLabel, origin: Origin | None, same_synset: list[str], neighbours: int) -> list[str]:
    warnings = []
    if link.is_ambiguous:
        chosen = "chosen by hand among" if link.rule in ("known name", "plural") else "the first of"
        both = f", its own and those of {link.singular!r}" if link.singular else ""
        others = first_of(list(link.alternatives))
        warnings.append(f"ambiguous: {chosen} {len(link.candidates)} senses{both}; others: {others}")
    if origin is None:
        warnings.append("out of vocabulary")
    elif origin.is_fallback:
        warnings.append(f"out of vocabulary: the vector is that of its {origin.how} {origin.via!r}")
    if same_synset:
        warnings.append(f"duplicate: the same synset as {first_of(same_synset)}")
    if neighbours == 0:
        warnings.append("isolated: no neighbour in the graph")
    return warnings
