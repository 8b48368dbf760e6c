"""How fast does mlzsl tag photos from disk, compared with PyTorch, ONNX Runtime and OpenVINO without it?

Runs `mlzsl-bench compare` on an untrained network, with the intended speed-ups. The backbone's weights are random
unless --weights names some: they change no time. PyTorch evaluates the head as the paper writes it,
its graph frozen; ONNX Runtime and OpenVINO run the file that mlzsl runs, with the head folded. Afterwards the
pipeline is compared with its own stages, each with all cores to itself.

    python benchmarks/tagging.py PHOTOS [--backbone resnet101] [--weights resnet101.pth] [--also model.int8.onnx]
        [--count 192] [--repeats 5] [--batch 16] [--folder bench]
"""

from pathlib import Path

import click
import torch
from rich.console import Console
from safetensors.torch import save_file

from mlzsl.export.exporter import export_model
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.runtime import Tagger
from mlzsl.runtime.bench.benchmark import photos_to_bench, verdict
from mlzsl.runtime.bench.compare import Comparison, compare_on_photos, report_comparison
from mlzsl.runtime.bench.stages import measure_stages
from mlzsl.runtime.report import print_parts
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.backbones.resnets import LAYERS, ResNet
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig

TARGETS = {
    "PyTorch eager fp32, DataLoader": 8.0,
    "torch.compile bf16, DataLoader": 2.5,
    "ONNX Runtime fp32, Pillow": 5.0,
}


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
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
    checkpoint, fp32 = networks(folder, backbone, weights, labels)
    comparison = Comparison((fp32, *also), checkpoint, None, batch, precision=precision)
    console = Console(width=140, highlight=False)
    print_parts(report_comparison(compare_on_photos(comparison, paths, repeats), TARGETS), console)
    with Tagger.open(fp32, precision=precision, batch_size=batch) as tagger:
        console.print(f"{verdict(measure_stages(tagger, paths, repeats))}; of the slower one, target ≥ 85%")


def networks(folder: Path, backbone: str, weights: Path | None, labels: str) -> tuple[Path, Path]:
    """The checkpoint of an untrained head and its model file, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{backbone}-{labels}" + (f"-{weights.stem}" if weights else "")
    path = folder / f"{stem}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        if weights is None and backbone in LAYERS:  # others have theirs in a package
            weights = folder / f"{backbone}.random.safetensors"
            save_file(random_backbone(backbone).state_dict(), weights)
        network = open_backbone(backbone, weights, quiet=True)
        label_set, embeddings = load_label_set(labels), open_embeddings("taxonomy")
        graph = build_class_graph(label_set, label_set.labels, network.external, embeddings)
        model = RGCNPosVAE(RGCNPosVAEConfig(network.feature_dim, graph.embeddings.shape[1])).eval()
        save_checkpoint(path, Checkpoint(model, network, label_set, label_set.labels, embeddings.source, 0.5, {}))
    exported = folder / f"{stem}.onnx"
    if not exported.exists():
        export_model(path, None, exported)
    return path, exported


def random_backbone(name: str) -> torch.nn.Module:
    """Random weights; residual branches are scaled down as in trained networks, or a ResNet-101 overflows fp16."""
    network = ResNet(name, 1000)
    for block in network.modules():
        for last in [part for part in ("bn3", "bn2") if hasattr(block, part)][:1]:
            torch.nn.init.constant_(getattr(block, last).weight, 0.2)
    return network


if __name__ == "__main__":
    main()
