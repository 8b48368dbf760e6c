"""What a job names: the unseen labels, in any spelling that the label set accepts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import UNSEEN, LabelSet, load_label_set
from mlzsl.train.training.job import unseen_labels

LABELS = LabelSet("labels.txt", ("dog", "Hot Dog", "caf\u00e9"), ("dog.n.01", "hotdog.n.02", "cafe.n.01"), ("qwrtz",))


@pytest.mark.parametrize(
    "content",
    [
        "hot_dog\nCAFE\u0301\n",
        "\ufeffHot-Dog\r\ncaf\u00e9\r\n",
        "hot  dog\thotdog.n.02\nCaf\u00e9\n",
        "hot dog\tn07697537\ncaf\u00e9\nqwrtz\n",  # the label set skipped qwrtz, which has no synset
    ],
)
def test_unseen_labels_are_spelled_in_any_way_that_labels_are(tmp_path: Path, content: str) -> None:
    file = tmp_path / "unseen.txt"
    file.write_bytes(content.encode())
    assert unseen_labels(str(file), LABELS) == {"Hot Dog", "caf\u00e9"}


@given(st.sets(st.sampled_from(load_label_set("coco80").labels), min_size=1))
def test_any_names_of_the_label_set_are_accepted(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    file = tmp_path_factory.mktemp("unseen") / "unseen.txt"
    file.write_text("".join(f"{name.upper()}\n" for name in names))
    assert unseen_labels(str(file), load_label_set("coco80")) == names


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("dog\ncow\n", r"--unseen .*: not in the label set labels\.txt: cow\."),
        ("dog\n\n", r"--unseen .*, line 2: is blank"),
        ("dog\ndog\n", r"--unseen .*, line 2: 'dog' is already on line 1"),
    ],
)
def test_other_names_and_broken_lines_are_refused(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "unseen.txt"
    file.write_text(content)
    with pytest.raises(UsageError, match=sentence):
        unseen_labels(str(file), LABELS)


def test_named_splits_and_none() -> None:
    coco = load_label_set("coco80")
    assert unseen_labels(None, coco) == unseen_labels("coco80", coco) == set(UNSEEN["coco80"])
    assert unseen_labels("none", coco) == unseen_labels(None, LABELS) == set()
