"""CLIP models of open_clip: the image tower is a backbone, the text tower encodes labels in prompts.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021; SigLIP is that of Zhai et
al., "Sigmoid Loss for Language Image Pre-Training", 2023. A label's logit for a photo is scale × cos(x, t_y), plus a
bias in SigLIP: x is the image embedding, and t_y the text embedding of the label. With x of unit length, that is a
linear classifier on x.
"""

import difflib
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.optional import import_optional
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import progress
from mlzsl.imaging.preprocessing import Fit, Preprocessing
from mlzsl.train.backbones.weights import load_weights, read_weights

CLIP = "clip:"
# t_y is the normalized mean of the unit vectors of these prompts; objects in photos have any size.
TEMPLATES = ("a photo of a {}.", "a photo of the large {}.", "a photo of the small {}.")
METHOD = "\n".join(("clip embeddings 1", *TEMPLATES)).encode()  # what vectors depend on besides the text tower
QUICK_GELU = "-quickgelu"  # ends the names of architectures with OpenAI's approximation of GELU
IMAGE_TOWER = "visual."  # the names of its tensors begin with that
SAME_VECTOR = 1e-5  # unit vectors that differ by less are of one text

# What open_clip, transformers and the hub raise where a file of a model cannot be had.
UNAVAILABLE = (OSError, RuntimeError, ValueError, ImportError)


class ImageTower(nn.Module):
    """An image tower with timm's interface, and the text embeddings of the external classes as a linear classifier."""

    def __init__(self, visual: nn.Module, embedding_dim: int, num_classes: int, bias: bool) -> None:
        """Args: the tower of open_clip, the length of its embeddings, C, and whether the model's logits have a bias."""
        super().__init__()
        self.visual = visual
        self.classifier = nn.Linear(embedding_dim, num_classes, bias=bias)

    def forward_features(self, images: Tensor) -> Tensor:
        """Image embeddings, float [B, 3, S, S] -> [B, F]."""
        embeddings = self.visual(images)
        # Some towers return patches beside the embedding.
        return cast(Tensor, embeddings[0] if isinstance(embeddings, tuple) else embeddings)

    def forward_head(self, embeddings: Tensor, pre_logits: bool = False) -> Tensor:
        """Image embeddings [B, F] -> logits [B, C], or x of unit length [B, F]."""
        x = nn.functional.normalize(embeddings, dim=1)
        return x if pre_logits else cast(Tensor, self.classifier(x))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """The linear layer from x to logits: scale × text embeddings, and the bias if the model has one."""
        return self.classifier


class ClipModel:
    """Both towers of a model; each label is encoded once.

    Attributes:
        name: of `--backbone`, such as "clip:ViT-B-32/laion2b_s34b_b79k".
        dimension: F, the length of embeddings.
        scale: of cosines in logits.
        bias: of logits; None for a model that is trained with a softmax.
    """

    def __init__(self, name: str, model: nn.Module, tokenize: Any) -> None:
        self.name, self._model, self._tokenize = name, model.eval().requires_grad_(False), tokenize
        found: Any = model
        self.scale = float(found.logit_scale.exp())
        self.bias = None if found.logit_bias is None else float(found.logit_bias)
        self._encoded: dict[str, NDArray[np.float32]] = {}
        self.dimension = len(self.vectors(["thing"])[0])

    def vectors(self, labels: Sequence[str], quiet: bool = True) -> NDArray[np.float32]:
        """t_y of each label, unit length, float32 [n, F]; no label depends on those beside it."""
        texts = [_text(label) for label in labels]
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        with progress(f"encoding labels with {self.name}", len(new), "labels", quiet or len(new) < 10) as shown:
            for text in new:
                self._encoded[text] = self._encode(text)
                shown.advance()
        return np.stack([self._encoded[text] for text in texts])

    def use_classifier(self, labels: Sequence[str], weight: Tensor) -> None:
        """Take t_y of the external classes from a backbone's classifier, scale × t_y, if it is of this model.

        Encoding 1,000 labels takes minutes with a large text tower.
        """
        vectors = nn.functional.normalize(weight).numpy()
        if vectors.shape[1] == self.dimension and np.abs(vectors[0] - self.vectors(labels[:1])[0]).max() <= SAME_VECTOR:
            self._encoded = dict(zip(map(_text, labels), vectors, strict=True)) | self._encoded

    def image_tower(self, labels: Sequence[str], quiet: bool = True) -> dict[str, Tensor]:
        """The tensors of an `ImageTower` with these external classes."""
        state = {name: tensor for name, tensor in self._model.state_dict().items() if name.startswith(IMAGE_TOWER)}
        state["classifier.weight"] = self.scale * torch.from_numpy(self.vectors(labels, quiet))
        if self.bias is not None:
            state["classifier.bias"] = torch.full((len(labels),), self.bias)
        return state

    @functools.cached_property
    def text_sha256(self) -> str:
        """The hash of templates and the text tower's tensors."""
        parts = [METHOD]
        for name, tensor in sorted(self._model.state_dict().items()):
            if not name.startswith(IMAGE_TOWER):
                parts += [name.encode(), sha256_of_bytes(tensor.contiguous().numpy().tobytes()).encode()]
        return sha256_of_bytes(*parts)

    @torch.inference_mode()
    def _encode(self, label: str) -> NDArray[np.float32]:
        tokens = self._tokenize([template.format(label) for template in TEMPLATES])
        prompts = cast(Any, self._model).encode_text(tokens, normalize=True)  # (T, F)
        vector: NDArray[np.float32] = nn.functional.normalize(prompts.mean(dim=0), dim=0).numpy()
        return vector


def check_clip_name(name: str) -> None:
    """Check the name of a model of open_clip.

    Raises:
        UsageError: open_clip is not installed, or the name is unknown or incomplete; the sentence names similar ones.
    """
    library, (architecture, tag) = _open_clip(name), _split(name)
    tags = library.list_pretrained_tags_by_model(architecture)
    if architecture in library.list_models() and (tag in tags or not (tag or tags)):
        quick = library.get_pretrained_cfg(architecture, tag).get("quick_gelu") if tag else False
        if quick and architecture + QUICK_GELU in library.list_models():
            raise UsageError(
                f"{name}: these weights were trained with another activation; "
                f"name {CLIP}{architecture}{QUICK_GELU}/{tag}."
            )
        return
    known = ["/".join(pair) for pair in library.list_pretrained()]
    if architecture in library.list_models():
        known = [f"{architecture}/{each}" for each in tags] or [architecture]
    own = name.removeprefix(CLIP)
    similar = difflib.get_close_matches(own, known, 3, cutoff=0.4) or known[:3]
    raise UsageError(
        f"{name}: open_clip has no such model with such weights; expected {CLIP}ARCHITECTURE/WEIGHTS; "
        f"did you mean {', '.join(CLIP + each for each in similar)}?"
    )


def clip_preprocessing(name: str, fit: Fit) -> Preprocessing:
    """The preprocessing of a model's weights, as open_clip states it.

    Raises:
        UsageError: an unknown name, or images that mlzsl does not make.
    """
    check_clip_name(name)
    library, (architecture, tag) = _open_clip(name), _split(name)
    config = library.transform.merge_preprocess_dict(
        library.transform.PreprocessCfg(), library.get_pretrained_cfg(architecture, tag) if tag else {}
    )
    size = library.get_model_config(architecture)["vision_cfg"].get("image_size", config["size"])
    width, height = (size, size) if isinstance(size, int) else size
    if width != height:
        raise UsageError(f"--backbone {name}: takes images of {width} x {height} px; mlzsl makes squares.")
    if config["interpolation"] not in ("bilinear", "bicubic"):
        raise UsageError(
            f"--backbone {name}: is made for {config['interpolation']} resizing, which mlzsl does not have."
        )
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(width, fit, config["interpolation"], mean, std)


def create_image_tower(name: str, num_classes: int) -> ImageTower:
    """Create the image tower of a model, whose tensors are still to be loaded, without its text tower.

    Raises:
        UsageError: open_clip is not installed, or the name is unknown.
    """
    check_clip_name(name)
    library, config = _open_clip(name), _config(name)
    smallest = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}  # open_clip's class has both
    visual = library.CLIP(
        config["embed_dim"], config["vision_cfg"], smallest, quick_gelu=config.get("quick_gelu", False)
    ).visual
    return ImageTower(visual, config["embed_dim"], num_classes, bias=config.get("init_logit_bias") is not None)


def load_clip(name: str, weights: Path | None = None) -> ClipModel:
    """Open a model with its weights; backbone and label vectors of one command share it.

    Args:
        name: clip:ARCHITECTURE/WEIGHTS.
        weights: a local file with open_clip's tensor names; None for the published ones, downloaded once.

    Raises:
        UsageError: open_clip is not installed, an unknown name, or a file that is missing, unreadable or of another
            model.
        FailureError: weights or tokenizer cannot be downloaded.
    """
    check_clip_name(name)
    path = weights or _download(name)
    status = path.stat() if path.is_file() else None  # a missing file is an error of `read_weights`
    return _load(name, path, status and (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=1)
def _load(name: str, path: Path, status: tuple[int, int] | None) -> ClipModel:
    library, config, state = _open_clip(name), _config(name), read_weights(path)
    if {"hf_model_name", "hf_tokenizer_name"} & config["text_cfg"].keys():
        import_optional("transformers", f"{name}: its text tower needs transformers; run pip install transformers.")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the sentence below says why they failed
    try:
        with torch.random.fork_rng(devices=[]):
            custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
            kind = library.CoCa if "multimodal_cfg" in config else library.CustomTextCLIP if custom else library.CLIP
            model = kind(**config)
        tokenize = library.get_tokenizer(_split(name)[0])
    except UNAVAILABLE as error:
        raise FailureError(
            f"{name}: its text tower cannot be created ({reason_of(error)}); it needs files of the Hugging Face hub or "
            "a package that is not installed: choose another model of open_clip, or install that package."
        ) from error
    expected = model.state_dict()
    if custom:  # older files have the text tower's tensors at the top
        state = library.model.convert_to_custom_text_state_dict(state)
    for scalar in {"logit_scale", "logit_bias"} & expected.keys() & state.keys():
        if state[scalar].numel() == 1:
            state[scalar] = state[scalar].reshape(expected[scalar].shape)  # some files have [1]
    load_weights(model, state, str(path), f"{name}, named as open_clip names them")
    return ClipModel(name, model, tokenize)


def _download(name: str) -> Path:
    library, (architecture, tag) = _open_clip(name), _split(name)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the sentence below says why they failed
    try:
        if not tag:
            raise ValueError("open_clip names none")
        return Path(library.download_pretrained(library.get_pretrained_cfg(architecture, tag)))
    except UNAVAILABLE as error:
        raise FailureError(
            f"{name}: its weights could not be downloaded ({reason_of(error)}); download them elsewhere and name "
            f"their file: --backbone-weights FILE, or --embeddings {name}:FILE."
        ) from error


def _config(name: str) -> dict[str, Any]:
    """The configuration of an architecture, none of whose parts has weights of its own."""
    config: dict[str, Any] = _open_clip(name).get_model_config(_split(name)[0])
    config["vision_cfg"]["timm_model_pretrained"] = config["text_cfg"]["hf_model_pretrained"] = False
    return config


def _text(label: str) -> str:
    return " ".join(label.replace("_", " ").split())


def _split(name: str) -> tuple[str, str]:
    architecture, _, tag = name.removeprefix(CLIP).partition("/")
    return architecture, tag


def _open_clip(name: str) -> Any:
    return import_optional("open_clip", f"{name}: needs open_clip; run pip install 'mlzsl[clip]'.")
