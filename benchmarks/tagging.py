"""How fast does mlzsl tag photos from disk, compared with PyTorch, ONNX Runtime and OpenVINO without it?

Runs `mlzsl-bench compare` on an untrained network, with the intended speed-ups. The backbone's weights are random
unless --weights names some: they change no time. PyTorch evaluates the head as the paper writes it,
its graph frozen; ONNX Runtime and OpenVINO run the file that mlzsl runs, with the head folded. Afterwards the
pipeline is compared with its own stages, each with all cores to itself.

    python benchmarks/tagging.py PHOTOS [--backbone resnet101] [--weights resnet101.pth] [--also model.int8.onnx]
        [--count 192] [--repeats 5] [--batch 16] [--folder bench]

With --default it is the default model, training-free on EfficientNet-Lite0, that tags: compared, interleaved, with a
ResNet-101 of random weights and with the same EfficientNet-Lite0 in PyTorch eager fp32, which a DataLoader feeds.

    python benchmarks/tagging.py PHOTOS --default [--also model.int8.onnx] [--count 192] [--repeats 5]
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import click
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.engines.engine import available_cpus
from mlzsl.export.baseline import Baseline
from mlzsl.export.exporter import export_model, export_untrained
from mlzsl.export.network import Scorer
from mlzsl.export.reference import testing_graph
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.embeddings.source import MINILM
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.runtime import Tagger
from mlzsl.runtime.bench.benchmark import photos_to_bench, verdict
from mlzsl.runtime.bench.compare import Comparison, compare_on_photos, report_comparison
from mlzsl.runtime.bench.load import ratios, spread
from mlzsl.runtime.bench.stages import measure_stages
from mlzsl.runtime.report import print_parts, rate, table
from mlzsl.train.backbones.backbone import Backbone, features_and_logits
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.backbones.resnets import LAYERS, ResNet
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.models.model import graph_tensors
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig
from mlzsl.train.training.untrained import untrained_checkpoint

TARGETS = {
    "PyTorch eager fp32, DataLoader": 8.0,
    "torch.compile bf16, DataLoader": 2.5,
    "ONNX Runtime fp32, Pillow": 5.0,
}
MODEL, DEFAULT_BACKBONE, LARGE_BACKBONE = "training-free", "efficientnet-lite0", "resnet101"
EAGER = "PyTorch eager fp32, DataLoader:"
DEFAULT_TARGETS = {  # intended speed-ups of mlzsl in bf16; in INT8
    f"{EAGER} {LARGE_BACKBONE}": (22.0, 26.0),
    f"{EAGER} {DEFAULT_BACKBONE}": (6.0, None),
    f"{EAGER} {DEFAULT_BACKBONE}, channels-last": (3.5, None),
}
Tag = Callable[[Sequence[str]], object]


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--default", is_flag=True, help="Compare the default model instead of --backbone.")
@click.option("--backbone", default="resnet101")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights.  [default: random]")
@click.option("--labels", default="coco80")
@click.option("--precision", default="bf16", help="Of mlzsl's own run of its fp32 file.")
@click.option("--also", multiple=True, type=click.Path(path_type=Path), help="Another model file to run.")
@click.option("--count", default=192, help="Photos of a repeat.")
@click.option("--repeats", default=5, help="Repeats; medians are reported.")
@click.option("--batch", default=16, help="Photos per batch.")
@click.option("--folder", default=Path("bench"), type=click.Path(path_type=Path), help="Folder of the model files.")
def main(
    photos: Path,
    default: bool,
    backbone: str,
    weights: Path | None,
    labels: str,
    precision: str,
    also: tuple[Path, ...],
    count: int,
    repeats: int,
    batch: int,
    folder: Path,
) -> None:
    """Tag the photos of a folder with mlzsl and its baselines."""
    paths = photos_to_bench([str(photos)], count)
    if default:
        compare_default(paths, labels, precision, also, repeats, batch, folder)
        return
    checkpoint, fp32 = networks(folder, backbone, weights, labels)
    comparison = Comparison((fp32, *also), checkpoint, None, batch, precision=precision)
    console = Console(width=140, highlight=False)
    print_parts(report_comparison(compare_on_photos(comparison, paths, repeats), TARGETS), console)
    with Tagger.open(fp32, precision=precision, batch_size=batch) as tagger:
        console.print(f"{verdict(measure_stages(tagger, paths, repeats))}; of the slower one, target ≥ 85%")


# ---- the default model ----------------------------------------------------------------------------------------------


def compare_default(
    paths: Sequence[str], labels: str, precision: str, also: Sequence[Path], repeats: int, batch: int, folder: Path
) -> None:
    """Print the rates of the default model and of PyTorch, and the ratios of every model file to each of the latter.

    All weights but those of ResNet-101 are real; no time depends on weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label_set = load_label_set(labels)
    model = export_untrained(MODEL, label_set, folder / "default.onnx", DEFAULT_BACKBONE, quiet=True).path
    cores = available_cpus()
    torch.set_num_threads(cores)
    small = untrained_scorer(open_backbone(DEFAULT_BACKBONE, quiet=True), labels)
    large = untrained_scorer(random_resnet(LARGE_BACKBONE, folder), labels)
    eager = {
        f"{EAGER} {LARGE_BACKBONE}": MemoryFormat(large, torch.contiguous_format),
        f"{EAGER} {DEFAULT_BACKBONE}": MemoryFormat(small, torch.contiguous_format),
        f"{EAGER} {DEFAULT_BACKBONE}, channels-last": MemoryFormat(small, torch.channels_last),
    }
    taggers: dict[str, Tagger] = {}
    for path in (model, *also):
        asked = precision if read_manifest(path).precision == "fp32" else None
        tagger = Tagger.open(path, precision=asked, batch_size=batch)
        taggers[f"mlzsl {path.name}, {tagger.execution.backend} {tagger.execution.precision}"] = tagger
    runs: dict[str, Tag] = {name: partial(tag_all, tagger) for name, tagger in taggers.items()}
    for name, network in eager.items():
        runs[name] = Baseline(network.eval(), network.preprocessing, "cpu", batch, cores).tag
    rates = interleaved(runs, paths, repeats, batch)
    for tagger in taggers.values():
        tagger.close()
    console = Console(width=140, highlight=False)
    print_parts(
        [
            f"From JPEG files to scores: {len(paths)} photos in batches of {batch}, median of {repeats} interleaved "
            f"repeats, {cores} cores",
            ratio_table(rates, list(taggers)),
        ],
        console,
    )


def interleaved(runs: dict[str, Tag], paths: Sequence[str], repeats: int, batch: int) -> dict[str, list[float]]:
    """Photos per second of each run in each repeat, after a warm-up of each on the sizes of batches that occur."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    with progress("comparing", (repeats + 1) * len(runs), "runs") as bar:
        for repeat in range(repeats + 1):
            for name, tag in runs.items():
                start = perf_counter()
                tag(paths if repeat else paths[: batch + len(paths) % batch])
                if repeat:
                    rates[name].append(len(paths) / (perf_counter() - start))
                bar.advance(note=name)
    return rates


def ratio_table(rates: dict[str, list[float]], models: Sequence[str]) -> Table:
    """A row for each run: its rate, and the ratio of each model file's rate to it, taken within each repeat."""
    rows = []
    for name, measured in rates.items():
        found = spread(measured)
        cells = [name, rate(found.median), f"{rate(found.low)}–{rate(found.high)}"]
        for model in models:
            of = ratios(rates[model], measured)
            target = DEFAULT_TARGETS.get(name, (None, None))[model.endswith("int8")]
            cells.append(f"{of.median:.2f} ({of.low:.2f}–{of.high:.2f})" + (f", target ≥ {target:g}" if target else ""))
        rows.append(cells)
    return table(("", "photos/s", "range", *(f"times: {model.removeprefix('mlzsl ')}" for model in models)), rows)


def tag_all(tagger: Tagger, paths: Sequence[str]) -> None:
    """Run the whole pipeline, tags included."""
    for _ in tagger.tag(paths):
        pass


def untrained_scorer(backbone: Backbone, labels: str) -> Scorer:
    """The training-free model in PyTorch, its head not folded."""
    label_set, embeddings = load_label_set(labels), open_embeddings(MINILM)
    checkpoint = untrained_checkpoint(MODEL, label_set, backbone, embeddings.source)
    graph = graph_tensors(testing_graph(checkpoint, label_set, embeddings))
    return Scorer(checkpoint.backbone, unfolded_head(checkpoint.model, graph))


class MemoryFormat(nn.Module):
    """A scorer whose network and normalized images are laid out in a memory format."""

    def __init__(self, scorer: Scorer, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.backbone, self.head = scorer.backbone.with_pooling(scorer.backbone.pooling), scorer.head
        self.backbone.network = copy.deepcopy(scorer.backbone.network).to(memory_format=memory_format)
        self.memory_format = memory_format
        self.preprocessing = scorer.backbone.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> float32 [n, L]."""
        normalized = self.backbone.normalize(images).contiguous(memory_format=self.memory_format)
        scores: Tensor = self.head(*features_and_logits(self.backbone.network, normalized, self.backbone.pooling))
        return scores


# ---- an untrained network with the paper's head ---------------------------------------------------------------------


def networks(folder: Path, backbone: str, weights: Path | None, labels: str) -> tuple[Path, Path]:
    """The checkpoint of an untrained head and its model file, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{backbone}-{labels}" + (f"-{weights.stem}" if weights else "")
    path = folder / f"{stem}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        random = weights is None and backbone in LAYERS  # others have theirs in a package
        network = random_resnet(backbone, folder) if random else open_backbone(backbone, weights, quiet=True)
        label_set, embeddings = load_label_set(labels), open_embeddings("taxonomy")
        graph = build_class_graph(label_set, label_set.labels, network.external, embeddings)
        model = RGCNPosVAE(RGCNPosVAEConfig(network.feature_dim, graph.embeddings.shape[1])).eval()
        save_checkpoint(path, Checkpoint(model, network, label_set, label_set.labels, embeddings.source, 0.5, {}))
    exported = folder / f"{stem}.onnx"
    if not exported.exists():
        export_model(path, None, exported)
    return path, exported


def random_resnet(name: str, folder: Path) -> Backbone:
    """A ResNet with random weights."""
    weights = folder / f"{name}.random.safetensors"
    save_file(random_backbone(name).state_dict(), weights)
    return open_backbone(name, weights, quiet=True)


def random_backbone(name: str) -> torch.nn.Module:
    """Random weights; residual branches are scaled down as in trained networks, or a ResNet-101 overflows fp16."""
    network = ResNet(name, 1000)
    for block in network.modules():
        for last in [part for part in ("bn3", "bn2") if hasattr(block, part)][:1]:
            torch.nn.init.constant_(getattr(block, last).weight, 0.2)
    return network


if __name__ == "__main__":
    main()
