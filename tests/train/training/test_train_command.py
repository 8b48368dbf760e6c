"""`mlzsl-train` on a dataset in its own format and with several models, from flags to checkpoint."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from resnetmodel import write_resnet18_weights
from smallencoder import write_small_encoder

from mlzsl.cli.main import main
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.graph.labels.sets import UNSEEN, load_label_set
from mlzsl.train.checkpoint import load_checkpoint
from mlzsl.train.datasets.synthetic.scenes import generate_scenes


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated scenes in the layout of MS-COCO 2014, 8 for training and 6 held out; weights of a ResNet-18."""
    root = tmp_path_factory.mktemp("coco")
    names = load_label_set("coco80").labels
    for split, count in (("train", 8), ("val", 6)):
        generate_scenes(root / f"scenes-{split}", count, seed=count, size=64, quiet=True)
        (root / f"scenes-{split}/images").rename(root / f"{split}2014")
        labels_of_photos = json.loads((root / f"scenes-{split}/labels.json").read_text())
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(labels_of_photos)],
            "annotations": [
                {"image_id": number, "category_id": 1 + names.index(label)}
                for number, labels in enumerate(labels_of_photos.values())
                for label in labels
            ],
            "categories": [{"id": 1 + index, "name": name} for index, name in enumerate(names)],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}2014.json").write_text(json.dumps(content))
    write_resnet18_weights(root / "resnet18.safetensors")
    return root


def train(root: Path, *flags: object) -> Result:
    short = () if {"training-free", "evidence"} & set(flags) else ("--epochs", 2)
    words = [
        "train", "--model", "RGCN-PosVAE", *short, "--data", f"coco:{root}", "--backbone", "resnet18",
        "--image-size", 32,
        "--backbone-weights", root / "resnet18.safetensors", "--cache", root / "cache", *flags,
    ]  # fmt: skip
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(
    ("flags", "epochs", "settings"),
    [
        (("--model", "training-free"), 0, {"sharpness": 10.0}),
        (("--model", "SKG", "--hidden-dim", 8, "--steps", 2), 2, {"hidden_dim": 8, "steps": 2}),
        (("--model", "Fast0Tag"), 2, {"feature_dim": 512}),
    ],
)
def test_a_model_is_trained_on_the_split_of_the_dataset(
    coco: Path, flags: tuple[object, ...], epochs: int, settings: dict[str, float]
) -> None:
    output = coco / f"{flags[1]}.safetensors"
    result = train(coco, *flags, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    labels_of_photos = json.loads((coco / "scenes-train/labels.json").read_text()).values()
    assert record["data"] == {
        "name": f"coco:{coco}",
        "labels": "coco80",
        "training_photos": 8,
        "trained_on": sum(bool(set(labels) - set(UNSEEN["coco80"])) for labels in labels_of_photos),
        "held_out": 6,
    }
    assert len(record["history"]) == epochs
    assert [row["k"] for row in record["top"]["generalized"]] == [3, 5]
    assert record["top"]["generalized"][0]["images"] == 6
    checkpoint = load_checkpoint(output)
    assert checkpoint.model.name == flags[1]
    assert {name: getattr(checkpoint.model.config, name) for name in settings} == settings


def test_labels_as_people_have_them_are_trained_and_exported(coco: Path) -> None:
    labels, unseen = coco / "labels.txt", coco / "unseen.txt"
    names = load_label_set("coco80").labels
    labels.write_bytes("".join(f"{name.title()}\r\n" for name in (*names, "action film")).encode("utf-8-sig"))
    unseen.write_text("hot-dog\nSTOP_SIGN\naction film\n")
    files = ("--labels", labels, "--unseen", unseen, "--embeddings", "taxonomy")
    refused = train(coco, "--model", "training-free", *files)
    assert refused.exit_code == 2
    assert "line 81: the label 'Action Film' is not a noun of WordNet; similar are movie.n.01" in refused.stderr
    checkpoint = coco / "titles.safetensors"
    result = train(coco, "--model", "training-free", *files, "--skip-unlinked", "-o", checkpoint)
    assert result.exit_code == 0, result.output
    assert f"{labels}: left out 1 of 81 labels, which have no synset: Action Film; " in result.stderr
    trained = load_checkpoint(checkpoint)
    assert set(trained.labels.labels) - set(trained.seen) == {"Hot Dog", "Stop Sign"}
    words = ("export", checkpoint, "--labels", labels, "--skip-unlinked", "-o", coco / "titles.onnx")
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "left out 1 of 81 labels" in result.stderr
    assert "80 labels, 78 seen in training, 2 unseen" in result.stdout


def test_phrases_without_a_synset_are_trained_exported_and_tagged_without_a_class_graph(coco: Path) -> None:
    write_small_encoder(coco / "encoder")
    labels = coco / "phrases.txt"
    labels.write_text("".join(f"{name}\n" for name in (*load_label_set("coco80").labels, "a red dog on a light")))
    flags = ("--labels", labels, "--embeddings", f"sentence:{coco / 'encoder'}")
    refused = train(coco, "--model", "RGCN", *flags)
    assert refused.exit_code == 2
    assert "'a red dog on a light' is not a noun" in refused.stderr
    assert "--skip-unlinked, as model RGCN needs the synset of every label" in refused.stderr
    checkpoint, model = coco / "phrases.safetensors", coco / "phrases.onnx"
    for name in ("training-free", "evidence"):
        result = train(coco, "--model", name, *flags, "-o", checkpoint)
        assert result.exit_code == 0, result.output
        result = CliRunner().invoke(main, ["export", str(checkpoint), "-o", str(model)])
        assert result.exit_code == 0, result.output
        assert [label.synset for label in read_manifest(model).labels][-2:] == ["toothbrush.n.01", None]
    (coco / "encoder").rename(coco / "moved")
    moved = ["export", str(checkpoint), "-o", str(model)]
    result = CliRunner().invoke(main, moved)
    assert result.exit_code == 2
    assert f"sentence:{coco / 'encoder'}: no such file or folder; the checkpoint was trained with" in result.stderr
    result = CliRunner().invoke(main, [*moved, "--embeddings", f"sentence:{coco / 'moved'}"])
    assert result.exit_code == 0, result.output


def test_a_model_with_a_class_graph_is_not_exported_for_phrases(coco: Path) -> None:
    write_small_encoder(coco / "words")
    embeddings = ("--embeddings", f"sentence:{coco / 'words'}")
    result = train(coco, "--model", "RGCN", "--hidden-dim", 8, *embeddings, "-o", coco / "rgcn.safetensors")
    assert result.exit_code == 0, result.output
    (coco / "two.txt").write_text("dog\nflower in a garden\n")
    words = ("export", coco / "rgcn.safetensors", "--labels", coco / "two.txt", "-o", coco / "two.onnx")
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2
    assert "1 of 2 labels have no synset, which model RGCN needs: flower in a garden. Write" in result.stderr


def test_photos_of_ones_own_have_the_shipped_vectors_by_default(coco: Path) -> None:
    result = train(coco, "--model", "training-free", "-o", coco / "default.safetensors")
    assert result.exit_code == 0, result.output
    assert load_checkpoint(coco / "default.safetensors").embeddings.name == "minilm"
    words = ("export", coco / "default.safetensors", "--labels", "voc20", "-o", coco / "default.onnx")
    assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0


def test_the_tables_are_printed(coco: Path) -> None:
    result = train(coco, "--system", "training-free", "-o", coco / "printed.safetensors")
    assert result.exit_code == 0, result.output
    assert "MS-COCO train2014: 8 photos" in result.stderr
    assert "conventional" in result.stdout
    assert "generalized" in result.stdout
    assert "mlzsl-export --labels coco80" in result.stdout


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--model", "skgg"), "--model skgg: expected one of visual-semantic, Fast0Tag, SKG, RGCN"),
        (("--model", "Fast0Tag", "--layers", 3), "--layers: has no effect with --model Fast0Tag"),
        (("--model", "RGCN", "--vae-weight", 2, "--steps", 2), "--steps: has no effect with --model RGCN"),
        (
            ("--model", "training-free", "--epochs", 3),
            "--epochs: has no effect with --model training-free, which is not",
        ),
        (("--skip-unlinked",), "--skip-unlinked: has no effect on coco80, whose labels all have a synset"),
        (("--model", "evidence", "--resume"), "--resume: has no effect with --model evidence, which is not trained in"),
        (("--data", "voc:/nowhere"), "/nowhere: no ImageSets/Main in it"),
        (("--data", "openimages:/nowhere"), "choose one with --labels"),
        (("--labels", "voc20"), "labels are not in the label set"),
        (("--held-out", 0.3), "--held-out 0.3: has no effect on MS-COCO train2014, which has test photos of its own"),
    ],
)
def test_invalid_flags_are_refused_in_one_sentence(coco: Path, flags: tuple[object, ...], sentence: str) -> None:
    result = train(coco, *flags)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--embeddings", "damaged.txt"), "damaged.txt, line 2: "),
        (("--embeddings", "lacking.txt"), "lacking.txt: has no vector for the target label(s)"),
        (("--embeddings", "missing.txt"), "missing.txt: no such file"),
        (("--labels", "missing.txt"), "missing.txt"),
        (("--unseen", "missing.txt"), "--unseen missing.txt: expected one of"),
        (("--backbone-weights", "w.pth"), "--backbone-weights w.pth: has no effect on --backbone small"),
        (("--backbone", "resnet18", "--backbone-weights", "w.pth"), "--backbone-weights w.pth: no such file"),
        (("--image-size", 64), "--image-size 64: has no effect on --backbone small"),
        (("--held-out", 0.3), "--held-out 0.3: has no effect on --data scenes"),
    ],
)
@pytest.mark.parametrize("command", [("train",), ("experiment", "table1")])
def test_files_and_flags_are_checked_before_anything_is_generated(
    command: tuple[str, ...],
    flags: tuple[object, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.txt").write_text("dog 1 2 3\ncat 1 2\n")
    Path("lacking.txt").write_text("xyzzy 1 2 3\n")
    result = CliRunner().invoke(main, [*command, *map(str, flags)])
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"damaged.txt", "lacking.txt"}


def test_evidence_is_the_default_on_photos(coco: Path) -> None:
    words = (
        *("train", "--data", f"coco:{coco}", "--backbone", "resnet18", "--image-size", "32"),
        *("--backbone-weights", str(coco / "resnet18.safetensors"), "--cache", str(coco / "cache")),
        *("-o", str(coco / "own.safetensors")),
    )
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "external classes are labels, kept: " in result.stderr
    checkpoint = load_checkpoint(coco / "own.safetensors")
    assert (checkpoint.model.name, checkpoint.overlap, checkpoint.most_externals) == ("evidence", "keep", None)
