"""The demo's backbone: a small ResNet, trained in a minute on generated images of single objects.

It replaces an ImageNet ResNet where nothing can be downloaded. Its classes are ImageNet classes, so that everything
else, from the class graph to the exported file, is the same as with a ResNet-101.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log, progress
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from mlzsl.train.backbones.backbone import Backbone, Normalize
from mlzsl.train.backbones.resnets import SmallResNet
from mlzsl.train.datasets.synthetic.scenes import drawing_versions, external_classes, generate_single_objects
from mlzsl.train.extraction.cache import load_cached, save_cached

RECIPE = "small backbone 2"  # raise it when the training below changes


@dataclass(frozen=True)
class PretrainingConfig:
    """Hyperparameters. Training images are grids of single-object tiles; each tile is classified at its own location.

    The features of a photo are a mean over spatial locations. A network trained on single objects would weight the
    background like the object; one trained on tiles learns features that survive averaging with others.

    Attributes:
        seed: of tiles, parameters and their order; held-out tiles use seed + 1.
        size: S, the side of the images that the backbone takes, in pixels.
        grid: tiles per row and column of a training image, each S / grid pixels wide.
        tiles: the number of training tiles.
        held_out: the number of tiles to measure the accuracy on.
        epochs: passes over the tiles; fixed, so that the result does not depend on the machine's speed.
        batch_size: tiles per step, a multiple of grid².
        learning_rate: of SGD with Nesterov momentum, at the peak of its one cycle.
        weight_decay: L2 penalty on weights, not on biases and BatchNorm.
        label_smoothing: the fraction of the target that is spread over all classes.
        shift: the largest translation of a tile in pixels, in each direction; the border is replicated.
    """

    seed: int = 0
    size: int = 96
    grid: int = 2
    tiles: int = 12_000
    held_out: int = 1_000
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    shift: int = 4

    @property
    def tile(self) -> int:
        """The side of a tile, in pixels."""
        return self.size // self.grid


def pretrain_small_backbone(cache: Path, config: PretrainingConfig | None = None, quiet: bool = False) -> Backbone:
    """Train the small backbone, or load it from the cache.

    Args:
        cache: the cache folder.
        config: hyperparameters; None for the defaults.
        quiet: show neither progress nor the accuracy.

    Returns:
        The frozen backbone, with the generated classes as its external label set.

    Raises:
        FailureError: the cache cannot be written.
    """
    config = config or PretrainingConfig()
    key = _key(config)
    path = cache / f"small-backbone-{key[:16]}.safetensors"
    if (cached := load_cached(path, key)) is not None:
        arrays, record = cached
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        backbone, accuracy = Backbone.from_config(record["backbone"], state), float(record["accuracy"])
    else:
        backbone, accuracy = _pretrained(config, quiet)
        arrays = {name: tensor.numpy() for name, tensor in backbone.state_dict().items()}
        save_cached(path, key, arrays, {"backbone": backbone.config(), "accuracy": accuracy})
    log(f"small backbone: top-1 {accuracy:.1%} on {config.held_out} held-out images ({path})", quiet)
    return backbone


def external_label_set() -> LabelSet:
    """The ImageNet classes of the generated images, in the order of the small backbone's logits."""
    imagenet = load_label_set("imagenet1k")
    return LabelSet(
        f"imagenet1k, {len(external_classes())} drawn classes",
        tuple(imagenet.labels[index] for index in external_classes()),
        tuple(imagenet.synsets[index] for index in external_classes()),
    )


def _pretrained(config: PretrainingConfig, quiet: bool) -> tuple[Backbone, float]:
    log(f"generating {config.tiles + config.held_out} images of {len(external_classes())} external classes", quiet)
    tiles, classes = map(torch.from_numpy, generate_single_objects(config.tiles, config.seed, config.tile))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = SmallResNet(len(external_classes())).to(memory_format=torch.channels_last)
        _train(network, tiles, classes, config, quiet)
    backbone = Backbone("small", network, external_label_set(), Preprocessing(size=config.size), license="Apache-2.0")
    held_out = map(torch.from_numpy, generate_single_objects(config.held_out, config.seed + 1, config.tile))
    return backbone, _accuracy(backbone, *held_out)


def _train(network: SmallResNet, tiles: Tensor, classes: Tensor, config: PretrainingConfig, quiet: bool) -> None:
    steps = len(tiles) // config.batch_size  # per epoch, without a last smaller batch, for BatchNorm
    optimizer = _optimizer(network, config)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps * config.epochs, pct_start=0.2
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    network.train()
    with progress("pretraining the small backbone", config.epochs * steps * config.batch_size, "images", quiet) as bar:
        for epoch in range(config.epochs):
            for chosen in torch.randperm(len(tiles))[: steps * config.batch_size].view(steps, -1):
                images = _grid(_augment(tiles[chosen], config.shift), config.grid)
                maps = network.forward_features(normalize(images))  # (batch / grid², F, S/16, S/16)
                pooled = nn.functional.adaptive_avg_pool2d(maps, config.grid)  # (batch / grid², F, grid, grid)
                features = pooled.permute(0, 2, 3, 1).flatten(0, 2)  # (batch, F)
                loss = loss_function(network.fc(features), classes[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.advance(len(chosen), note=f"epoch {epoch + 1}/{config.epochs}, loss {loss.item():.2f}")


def _optimizer(network: nn.Module, config: PretrainingConfig) -> torch.optim.Optimizer:
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, config.learning_rate, momentum=0.9, nesterov=True)


def _grid(tiles: Tensor, grid: int) -> Tensor:
    """Arrange tiles row by row, grid × grid per image; uint8 [B, s, s, 3] -> [B / grid², grid·s, grid·s, 3]."""
    side = tiles.shape[1]
    return tiles.view(-1, grid, grid, side, side, 3).transpose(2, 3).reshape(-1, grid * side, grid * side, 3)


def _augment(tiles: Tensor, shift: int) -> Tensor:
    """Translate each tile by up to `shift` pixels and flip half of them; uint8 [B, s, s, 3] -> the same shape."""
    count, size = tiles.shape[:2]
    shifts = torch.randint(-shift, shift + 1, (2, count, 1))
    rows, columns = (torch.arange(size) + shifts).clamp(0, size - 1)  # (B, s) each
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    return tiles[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _accuracy(backbone: Backbone, images: Tensor, classes: Tensor) -> float:
    with torch.inference_mode():
        predicted = torch.cat([backbone(batch)[1].argmax(dim=1) for batch in images.split(256)])
    return (predicted == classes).double().mean().item()


def _key(config: PretrainingConfig) -> str:
    """A hash of everything that the trained tensors depend on."""
    settings = {"recipe": RECIPE, "data": drawing_versions(), "torch": torch.__version__} | asdict(config)
    return sha256_of_bytes(json.dumps(settings, sort_keys=True).encode(), json.dumps(external_classes()).encode())
