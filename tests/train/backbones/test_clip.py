"""CLIP models: both towers equal to open_clip's, and what cannot be opened."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from smallclip import CONFIGS, DIMENSION, SIZE, small_clip
from torch.nn.functional import normalize

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones import clip
from mlzsl.train.backbones.architectures import find_architecture
from mlzsl.train.backbones.backbone import DENSE, GLOBAL, Backbone
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.embeddings import ClipEmbeddings, open_embeddings

LABELS = LabelSet("labels", ("dog", "coffee_cup", "flower in a garden"), ("dog.n.01", "cup.n.01", "flower.n.01"))


def text_embeddings(model: torch.nn.Module, architecture: str, labels: tuple[str, ...]) -> torch.Tensor:
    """t_y by open_clip: [n, F]."""
    tokenize = open_clip.get_tokenizer(architecture)
    rows = []
    for label in labels:
        prompts = tokenize([f"a photo of {which} {label}." for which in ("a", "the large", "the small")])
        rows.append(normalize(model.encode_text(prompts, normalize=True).mean(dim=0), dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("architecture", CONFIGS)
@torch.no_grad()
def test_features_and_logits_are_open_clips(architecture: str, tmp_path: Path) -> None:
    model, weights = small_clip(architecture, tmp_path)
    before = torch.get_rng_state()
    backbone = open_backbone(f"clip:{architecture}", weights, quiet=True)
    assert torch.equal(torch.get_rng_state(), before)
    noise = torch.rand(4, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1))
    images = (
        noise * torch.tensor([[255, 20, 20], [20, 255, 20], [20, 20, 255], [250, 250, 250]])[:, None, None]
    ).byte()
    x, logits = backbone(images)

    expected = model.encode_image(backbone.normalize(images), normalize=True)
    assert (x - expected).abs().max() <= 1e-5
    classes = (0, 7, 999)
    texts = text_embeddings(model, architecture, tuple(load_label_set("imagenet1k").labels[index] for index in classes))
    of_model = model.logit_scale.exp() * expected @ texts.T
    if model.logit_bias is not None:
        of_model = of_model + model.logit_bias
    assert (logits[:, classes] - of_model).abs().max() <= 1e-5
    assert logits.std(dim=0).min() > 1e-3, "logits that do not depend on the image prove nothing"
    log_p = backbone.with_pooling(GLOBAL)(images)[0][:, DIMENSION:]
    assert (log_p - logits.log_softmax(dim=1)).abs().max() <= 1e-6


def test_the_checkpoint_has_the_image_tower_alone(tmp_path: Path) -> None:
    _, weights = small_clip("small-vit", tmp_path)
    backbone = open_backbone("clip:small-vit", weights, quiet=True)
    state = backbone.state_dict()
    assert all(name.startswith(("network.visual.", "network.classifier.")) for name in state)
    restored = Backbone.from_config(backbone.config(), state)
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3)).byte()
    assert torch.equal(restored(images)[1], backbone(images)[1])
    assert restored.external == load_label_set("imagenet1k")


def test_no_logits_at_spatial_locations(tmp_path: Path) -> None:
    _, weights = small_clip("small-vit", tmp_path)
    with pytest.raises(UsageError, match=r"clip:small-vit: has no logits at spatial locations.*--pooling global"):
        open_backbone("clip:small-vit", weights, quiet=True).with_pooling(DENSE)


def test_another_image_size_is_refused(tmp_path: Path) -> None:
    _, weights = small_clip("small-vit", tmp_path)
    with pytest.raises(UsageError, match="clip:small-vit takes images of 64 px only"):
        open_backbone("clip:small-vit", weights, image_size=96)


@pytest.mark.parametrize(
    ("name", "size", "interpolation", "mean"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", 224, "bicubic", open_clip.OPENAI_DATASET_MEAN),
        ("ViT-B-16-SigLIP-256/webli", 256, "bicubic", (0.5, 0.5, 0.5)),
        ("MobileCLIP-S1/datacompdr", 256, "bilinear", (0, 0, 0)),
    ],
)
def test_preprocessing_is_that_of_the_weights(
    name: str, size: int, interpolation: str, mean: tuple[float, float, float]
) -> None:
    found = find_architecture(f"clip:{name}", fit="crop").preprocessing
    assert (found.size, found.fit, found.crop, found.interpolation) == (size, "crop", 1.0, interpolation)
    assert found.mean == pytest.approx(mean)
    assert find_architecture(f"clip:{name}").preprocessing == Preprocessing(
        size, "squash", found.interpolation, found.mean, found.std
    )


@pytest.mark.parametrize("architecture", ["small-vit", "small-sigmoid"])
@torch.no_grad()
def test_label_vectors_are_the_mean_of_prompts_alone_or_beside_others(architecture: str, tmp_path: Path) -> None:
    model, weights = small_clip(architecture, tmp_path)
    embeddings = open_embeddings(f"clip:{architecture}:{weights}")
    vectors = embeddings.embed(LABELS, "target").vectors
    expected = text_embeddings(model, architecture, ("dog", "coffee cup", "flower in a garden"))
    assert np.abs(vectors - expected.numpy()).max() <= 1e-6
    clip._load.cache_clear()
    for index, label in enumerate(LABELS.labels):
        alone = open_embeddings(f"clip:{architecture}:{weights}").embed(
            LabelSet("one", (label,), ("dog.n.01",)), "target"
        )
        assert np.array_equal(alone.vectors[0], vectors[index])


def test_the_source_states_model_weights_and_file(tmp_path: Path) -> None:
    (_, weights), (_, others) = (small_clip("small-vit", tmp_path, seed) for seed in (0, 1))
    source = open_embeddings(f"clip:small-vit:{weights}").source
    assert (source.name, source.dimension, source.path) == ("clip:small-vit", DIMENSION, f"clip:small-vit:{weights}")
    assert open_embeddings(str(source.path)).source == source
    assert open_embeddings(f"clip:small-vit:{others}").source.sha256 != source.sha256


def test_vectors_of_external_classes_are_taken_from_a_backbone_of_the_same_weights(tmp_path: Path) -> None:
    (_, weights), (_, others) = (small_clip("small-vit", tmp_path, seed) for seed in (0, 1))
    backbone, other = (open_backbone("clip:small-vit", path, quiet=True) for path in (weights, others))
    imagenet = load_label_set("imagenet1k")
    one = LabelSet("one", imagenet.labels[7:8], imagenet.synsets[7:8])
    clip._load.cache_clear()
    embeddings = open_embeddings(f"clip:small-vit:{weights}")
    encoded = embeddings.embed(one, "external").vectors
    for used in (other, backbone):
        clip._load.cache_clear()
        embeddings = open_embeddings(f"clip:small-vit:{weights}")
        assert isinstance(embeddings, ClipEmbeddings)
        embeddings.use_backbone(used)
        assert len(embeddings._model._encoded) > 900 or used is other
        assert np.abs(embeddings.embed(one, "external").vectors - encoded).max() <= 1e-6


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clip:ViT-B-33/laion2b", "did you mean clip:ViT-B-32/laion2b"),
        ("clip:ViT-B-32/laion3b", "did you mean clip:ViT-B-32/laion2b"),
        ("clip:ViT-B-32", "expected clip:ARCHITECTURE/WEIGHTS; did you mean clip:ViT-B-32/"),
        ("clip:", "did you mean clip:"),
        ("clip:ViT-B-32/openai", "another activation; name clip:ViT-B-32-quickgelu/openai"),
    ],
)
def test_names_that_open_clip_lacks_suggest_others(name: str, sentence: str) -> None:
    for opening in (open_backbone, open_embeddings):
        with pytest.raises(UsageError, match=sentence) as refusal:
            opening(name)
        assert "\n" not in str(refusal.value)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    (_, weights), (_, others) = small_clip("small-vit", tmp_path), small_clip("small-resnet", tmp_path)
    with pytest.raises(UsageError, match=r"small-resnet-0.safetensors: found .*missing.*named as open_clip names them"):
        open_backbone("clip:small-vit", others)
    tensors = load_file(weights)
    tensors["visual.conv1.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(UsageError, match="NaN or infinity"):
        open_backbone("clip:small-vit", tmp_path / "nan.safetensors")
    with pytest.raises(UsageError, match=r"nowhere.pt: no such weights file"):
        open_backbone("clip:small-vit", tmp_path / "nowhere.pt")


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(config: dict[str, str]) -> str:
        raise FileNotFoundError("Failed to download file (open_clip_model.safetensors)\nLast error: timed out")

    monkeypatch.setattr("open_clip.download_pretrained", unreachable)
    with pytest.raises(FailureError, match=r"could not be downloaded \(Failed.*--backbone-weights") as failure:
        open_backbone("clip:ViT-B-32/laion2b_s34b_b79k")
    assert "\n" not in str(failure.value)


def test_a_text_tower_that_needs_another_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    _, weights = small_clip("small-vit", tmp_path)
    with pytest.raises(UsageError, match="its text tower needs transformers; run pip install transformers"):
        open_backbone("clip:ViT-B-16-SigLIP/webli", weights)


def test_a_missing_open_clip_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['open_clip'] = None\n"
        "from mlzsl.cli.main import main\n"
        "main(['train', '--backbone', 'clip:ViT-B-32/laion2b_s34b_b79k'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2
    assert "needs open_clip; run pip install 'mlzsl[clip]'" in run.stderr
    assert "Traceback" not in run.stderr
