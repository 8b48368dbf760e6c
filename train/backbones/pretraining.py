"""The demo's backbone: a small ResNet, trained in a minute on generated pictures of single objects.

It stands in for an ImageNet ResNet where nothing may be downloaded. Its classes are real ImageNet classes, so that the
rest of the work, from the class graph to the exported file, is the same as with a ResNet-101.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log, progress
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import Backbone, Normalize, SmallResNet, feature_maps
from mlzsl.train.datasets.synthetic.scenes import SCENES_VERSION, external_classes, generate_single_objects
from mlzsl.train.extraction.cache import keep, recall

RECIPE = "small backbone 2"  # to be raised when the training below changes


@dataclass(frozen=True)
class PretrainingConfig:
    """The recipe: pictures laid out as tiles of larger images, as objects lie in a scene, and each told by its place.

    The features of an image are a mean over places. Trained on lone pictures, a network lets the empty surroundings
    of an object speak as loud as the object; trained on tiles, it learns what stays readable in a mean of several.

    Attributes:
        seed: of pictures, parameters and their order; the held-out pictures take the next one.
        size: S, the side of the images that the backbone takes, in pixels.
        grid: how many pictures lie side by side in a training image, each S / grid pixels wide.
        pictures: how many to train on.
        held_out: how many more to measure the accuracy on.
        epochs: passes over the pictures; fixed, so that the result does not hang on the machine's speed.
        batch_size: pictures a step, a multiple of grid².
        learning_rate: of SGD with Nesterov momentum, at the peak of its one cycle.
        weight_decay: L2 penalty on weights; biases and BatchNorm are free of it.
        label_smoothing: the share of the target that is spread over all classes.
        shift: how far a picture is moved at most, in pixels each way; its border is stretched.
    """

    seed: int = 0
    size: int = 96
    grid: int = 2
    pictures: int = 12_000
    held_out: int = 1_000
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    shift: int = 4

    @property
    def tile(self) -> int:
        """The side of a single picture, in pixels."""
        return self.size // self.grid


def pretrain_small_backbone(cache: Path, config: PretrainingConfig | None = None, quiet: bool = False) -> Backbone:
    """Train the small backbone, or take it from the cache when it was trained with all the same before.

    Args:
        cache: the folder for what can be made again.
        config: the recipe; None takes the default.
        quiet: show neither progress nor the accuracy.

    Returns:
        The backbone, frozen, with the generated classes as its external label set.

    Raises:
        FailureError: the cache cannot be written.
    """
    config = config or PretrainingConfig()
    key = _key(config)
    path = cache / f"small-backbone-{key[:16]}.safetensors"
    kept = recall(path, key)
    if kept is not None:
        arrays, record = kept
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        backbone, accuracy = Backbone.from_config(record["backbone"], state), float(record["accuracy"])
    else:
        backbone, accuracy = _pretrained(config, quiet)
        arrays = {name: tensor.numpy() for name, tensor in backbone.state_dict().items()}
        keep(path, key, arrays, {"backbone": backbone.config(), "accuracy": accuracy})
    log(f"small backbone: top-1 {accuracy:.1%} on {config.held_out} held-out pictures ({path})", quiet)
    return backbone


def external_label_set() -> LabelSet:
    """The ImageNet classes that pictures are generated of, in the order of the small backbone's logits."""
    imagenet = load_label_set("imagenet1k")
    return LabelSet(
        f"imagenet1k, {len(external_classes())} drawn classes",
        tuple(imagenet.labels[index] for index in external_classes()),
        tuple(imagenet.synsets[index] for index in external_classes()),
    )


def _pretrained(config: PretrainingConfig, quiet: bool) -> tuple[Backbone, float]:
    total = config.pictures + config.held_out
    log(f"drawing {total} pictures of {len(external_classes())} external classes", quiet)
    pictures, classes = _single_objects(config.pictures, config.seed, config.tile)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = SmallResNet(len(external_classes())).to(memory_format=torch.channels_last)
        _train(network, pictures, classes, config, quiet)
    backbone = Backbone("small", network, external_label_set(), Preprocessing(size=config.size))
    return backbone, _accuracy(backbone, *_single_objects(config.held_out, config.seed + 1, config.tile))


def _train(network: SmallResNet, pictures: Tensor, classes: Tensor, config: PretrainingConfig, quiet: bool) -> None:
    steps = len(pictures) // config.batch_size  # an epoch; the last, smaller batch would upset BatchNorm
    optimizer = _optimizer(network, config)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps * config.epochs, pct_start=0.2
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    normalize = Normalize()
    network.train()
    with progress(
        "pretraining the small backbone", config.epochs * steps * config.batch_size, "pictures", quiet
    ) as bar:
        for epoch in range(config.epochs):
            for chosen in torch.randperm(len(pictures))[: steps * config.batch_size].view(steps, -1):
                images = _tiled(_varied(pictures[chosen], config.shift), config.grid)
                maps = feature_maps(network, normalize(images))  # (batch / grid², F, S/16, S/16)
                tiles = nn.functional.adaptive_avg_pool2d(maps, config.grid)  # (batch / grid², F, grid, grid)
                features = tiles.permute(0, 2, 3, 1).flatten(0, 2)  # (batch, F)
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


def _tiled(pictures: Tensor, grid: int) -> Tensor:
    """Lay pictures out by rows, grid × grid an image; uint8 [B, s, s, 3] -> [B / grid², grid·s, grid·s, 3]."""
    side = pictures.shape[1]
    tiles = pictures.view(-1, grid, grid, side, side, 3)
    return tiles.transpose(2, 3).reshape(-1, grid * side, grid * side, 3)


def _varied(pictures: Tensor, shift: int) -> Tensor:
    """Move each picture by up to `shift` pixels and mirror every other one; uint8 [B, S, S, 3] both ways."""
    count, size = pictures.shape[:2]
    places = torch.arange(size)
    moves = torch.randint(-shift, shift + 1, (2, count, 1))
    rows, columns = (places + moves).clamp(0, size - 1)  # (B, S) each
    mirrored = torch.rand(count, 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return pictures[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _accuracy(backbone: Backbone, pictures: Tensor, classes: Tensor) -> float:
    with torch.inference_mode():
        guesses = torch.cat([backbone(batch)[1].argmax(dim=1) for batch in torch.split(pictures, 256)])
    return (guesses == classes).double().mean().item()


def _single_objects(count: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """Generated pictures, uint8 [count, size, size, 3], and the logit each should raise, int64 [count]."""
    pictures, classes = generate_single_objects(count, seed, size)
    return torch.from_numpy(pictures), torch.from_numpy(classes)


def _key(config: PretrainingConfig) -> str:
    """A hash of all that the trained tensors depend on."""
    settings = {"recipe": RECIPE, "data": SCENES_VERSION, "torch": torch.__version__} | asdict(config)
    return sha256_of_bytes(json.dumps(settings, sort_keys=True).encode(), json.dumps(external_classes()).encode())
