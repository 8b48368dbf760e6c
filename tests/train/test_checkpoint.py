"""A checkpoint is restored whole, and each defect of its header or tensors is one error that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from smallgraph import small_model

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import DENSE, Backbone
from mlzsl.train.backbones.resnets import SmallResNet
from mlzsl.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

LABELS = LabelSet("two", ("dog", "cat"), ("dog.n.01", "cat.n.01"))
EXTERNAL = LabelSet("external", ("wolf", "lynx", "tabby"), ("wolf.n.01", "lynx.n.02", "tabby.n.01"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    backbone = Backbone("small", SmallResNet(len(EXTERNAL)), EXTERNAL, Preprocessing(size=32), DENSE)
    source = open_embeddings("taxonomy").source
    record = {"history": [{"loss": 0.5}]}
    checkpoint = Checkpoint(small_model("evidence"), backbone, LABELS, ("dog",), source, 0.5, record)
    save_checkpoint(tmp_path / "checkpoint.safetensors", checkpoint)
    return tmp_path / "checkpoint.safetensors"


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> None:
    """Change the header and the tensors of a checkpoint in place."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["mlzsl"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 not a dict
    change(header, tensors)
    save_file(tensors, path, metadata={"mlzsl": json.dumps(header)})


def test_it_is_restored_whole(path: Path) -> None:
    loaded, expected = load_checkpoint(path), small_model("evidence")
    assert (loaded.labels, loaded.seen, loaded.threshold) == (LABELS, ("dog",), 0.5)
    assert loaded.training == {"history": [{"loss": 0.5}]}
    assert loaded.model.config == expected.config
    assert not loaded.model.training
    assert (loaded.backbone.external, loaded.backbone.pooling) == (EXTERNAL, DENSE)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda header, tensors: header.update(format="mlzsl checkpoint 9"), "mlzsl checkpoint 9"),
        (lambda header, tensors: header.update(format="mlzsl checkpoint 1", model=3), "model is 3, not text"),
        (lambda header, tensors: header.pop("seen"), "lacks seen"),
        (lambda header, tensors: header.update(seen="dog"), 'seen is "dog", not a list'),
        (lambda header, tensors: header["labels"].pop("synsets"), "labels lacks synsets"),
        (lambda header, tensors: header.update(threshold=2), "threshold is 2, not a number from 0 to 1"),
        (lambda header, tensors: header.update(model="other"), "unknown model 'other'"),
        (lambda header, tensors: header["config"].pop("penalty"), "configuration entries: penalty"),
        (lambda header, tensors: header["backbone"].update(pooling="max"), 'pooling is "max"'),
        (
            lambda header, tensors: header["config"].update({"x" * 5000: 1}),
            "configuration entries: x+…x+;",
        ),
        (lambda header, tensors: header.update({"\ud800": 1}), r'the text "\\ud800" is not Unicode'),
        (
            lambda header, tensors: header.update(
                model="RGCN", config={"feature_dim": 2, "embedding_dim": 2, "hidden_dim": 2, "layers": 2**31}
            ),
            "invalid configuration entries: layers",
        ),
        (lambda header, tensors: tensors.pop("model.offset"), "do not match the model"),
        (lambda header, tensors: tensors["model.offset"].fill_(torch.nan), "NaN or infinity"),
        (lambda header, tensors: tensors.pop("backbone.network.fc.bias"), r"1 tensor missing \(fc.bias\)"),
    ],
)
def test_a_defect_is_one_error_that_names_the_file(path: Path, change: Callable[..., Any], sentence: str) -> None:
    rewrite(path, change)
    with pytest.raises(UsageError, match=sentence) as refusal:
        load_checkpoint(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
