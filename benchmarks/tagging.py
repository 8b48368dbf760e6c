"""How fast do photos on disk become tags, beside the ways in which one would do it without mlzsl?

All take the same JPEG files to the scores of the same network with its whole head, on the same cores, in turns in one
run. The backbone's weights are random unless --weights names some: they change no time. The others decode with Pillow
at full size; PyTorch evaluates the head as the paper writes it, its graph frozen, and ONNX Runtime the file that mlzsl
runs, with the head folded. "Decode alone" and "engine alone" are the pipeline's own stages, each with all cores to
itself.

    python benchmarks/tagging.py PHOTOS [--backbone resnet101] [--weights resnet101.pth] [--also model.int8.onnx]
        [--count 192] [--rounds 5] [--batch 16] [--folder bench]
"""

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mlzsl.engines.engine import available_cpus
from mlzsl.export.exporter import export_model
from mlzsl.export.written_head import WrittenHead
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings import open_embeddings
from mlzsl.graph.labelsets import load_label_set
from mlzsl.imaging import Preprocessing, load_image
from mlzsl.runtime import Tagger
from mlzsl.train.backbone import ARCHITECTURES, Backbone, open_backbone
from mlzsl.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig
from mlzsl.train.models.tensors import graph_tensors

Job = Callable[[list[str]], npt.NDArray[np.float32] | None]
Images = npt.NDArray[np.uint8]
OURS, DECODE, ENGINE = "mlzsl", "decode alone", "engine alone"
TARGETS = {
    "PyTorch eager fp32, DataLoader": 8.0,
    "torch.compile bf16, DataLoader": 2.5,
    "ONNX Runtime fp32, Pillow": 5.0,
}


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--backbone", default="resnet101")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights; random ones without.")
@click.option("--labels", default="coco80")
@click.option("--precision", default="bf16", help="Of mlzsl's own run of its fp32 file.")
@click.option("--also", multiple=True, type=click.Path(path_type=Path), help="Another model file for mlzsl to run.")
@click.option("--count", default=192, help="Photos a turn.")
@click.option("--rounds", default=5, help="Turns; medians are shown.")
@click.option("--batch", default=16, help="Photos a batch.")
@click.option("--folder", default=Path("bench"), type=click.Path(path_type=Path), help="Where the networks are kept.")
def main(
    photos: Path,
    backbone: str,
    weights: Path | None,
    labels: str,
    precision: str,
    also: tuple[Path, ...],
    count: int,
    rounds: int,
    batch: int,
    folder: Path,
) -> None:
    """Tag the JPEG files of a folder in several ways."""
    files = [str(path) for path in sorted(photos.glob("*.jp*g"))]
    paths = list(itertools.islice(itertools.cycle(files), count))
    checkpoint, fp32 = networks(folder, backbone, weights, labels)
    scorer = Scorer(checkpoint)
    size = checkpoint.backbone.preprocessing.size
    tagger = Tagger.open(fp32, precision=precision, batch_size=batch)
    jobs: dict[str, Job] = {
        OURS: ours(tagger),
        DECODE: decode_alone(size),
        ENGINE: engine_alone(tagger, size, batch),
        "PyTorch eager fp32, DataLoader": pytorch(scorer, size, batch),
        "torch.compile bf16, DataLoader": pytorch(torch.compile(HalfScorer(checkpoint)), size, batch),
        "ONNX Runtime fp32, Pillow": onnx_runtime(fp32, size, batch),
    }
    jobs |= {f"mlzsl, {path.name}": ours(Tagger.open(path, batch_size=batch)) for path in also}
    rates = in_turns(jobs, paths, rounds, warm_up=4 * batch)

    table = Table(
        title=f"{backbone} at {size} px, {len(checkpoint.labels.labels)} labels; {count} photos a turn, batches of "
        f"{batch}, {available_cpus()} cores, median of {rounds}; {OURS} runs {tagger.running}",
        title_justify="left",
    )
    for heading in ("from files to tags", "photos/s", f"{OURS} against it", "spread", "target", "differs from fp32 by"):
        table.add_column(heading, justify="left" if heading == "from files to tags" else "right")
    truth = jobs["PyTorch eager fp32, DataLoader"](files[:batch])
    for name, measured in rates.items():
        ratios = [ours / other for ours, other in zip(rates[OURS], measured, strict=True)]
        target = f"≥ {TARGETS[name]:g}" if name in TARGETS else ""
        scores = jobs[name](files[:batch])
        table.add_row(
            name,
            f"{statistics.median(measured):.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            target,
            "" if scores is None or truth is None else f"{np.abs(scores - truth).max():.0e}",
        )
    slower = [min(pair) for pair in zip(rates[DECODE], rates[ENGINE], strict=True)]
    shares = [ours / limit for ours, limit in zip(rates[OURS], slower, strict=True)]
    Console(width=140).print(table)
    print(
        f"{OURS} reaches {statistics.median(shares):.0%} ({min(shares):.0%}–{max(shares):.0%}) of the slower of decode "
        "alone and engine alone; target ≥ 85%"
    )


def networks(folder: Path, backbone: str, weights: Path | None, labels: str) -> tuple[Checkpoint, Path]:
    """The checkpoint of an untrained head and its model file, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{backbone}-{labels}" + (f"-{weights.stem}" if weights else "")
    path = folder / f"{stem}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        if weights is None:
            weights = folder / f"{backbone}.random.safetensors"
            save_file(ARCHITECTURES[backbone](1000).state_dict(), weights)
        network = open_backbone(backbone, weights, quiet=True)
        label_set, embeddings = load_label_set(labels), open_embeddings("taxonomy")
        graph = build_class_graph(label_set, label_set.labels, network.external, embeddings)
        model = RGCNPosVAE(RGCNPosVAEConfig(network.feature_dim, graph.embeddings.shape[1])).eval()
        save_checkpoint(path, Checkpoint(model, network, label_set, label_set.labels, embeddings.source, 0.5, {}))
    exported = folder / f"{stem}.onnx"
    if not exported.exists():
        export_model(path, None, exported)
    return load_checkpoint(path), exported


class Scorer(nn.Module):
    """uint8 images (N, S, S, 3) -> scores (N, L), as one writes it in PyTorch."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        labels, external = checkpoint.labels, checkpoint.backbone.external
        graph = build_class_graph(labels, labels.labels, external, open_embeddings("taxonomy"))
        self.backbone: Backbone = checkpoint.backbone
        self.head = WrittenHead(checkpoint.model, graph_tensors(graph)).eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(*self.backbone(images))


class HalfScorer(nn.Module):
    """The same with weights and activations in bf16."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        scorer = Scorer(checkpoint)
        self.normalize = scorer.backbone.normalize
        self.network = ARCHITECTURES[scorer.backbone.name](1000).eval()
        self.network.load_state_dict(scorer.backbone.network.state_dict())
        self.network.to(torch.bfloat16, memory_format=torch.channels_last)
        self.head = copy.deepcopy(scorer.head).bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        net = self.network
        maps = net.maxpool(net.relu(net.bn1(net.conv1(self.normalize(images).bfloat16()))))
        features = net.layer4(net.layer3(net.layer2(net.layer1(maps)))).mean(dim=(2, 3))
        return self.head(features, net.fc(features)).float()


class Photos(Dataset[Tensor]):
    """Pillow, every pixel decoded, then squashed."""

    def __init__(self, paths: list[str], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        return torch.from_numpy(decoded(self.paths[place], self.size))


def decoded(path: str, size: int) -> Images:
    """A photo as most people's code decodes it: uint8 [S, S, 3]."""
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def ours(tagger: Tagger) -> Job:
    """The whole pipeline, tags and all."""

    def job(paths: list[str]) -> None:
        assert sum(photo.error is None for photo in tagger.tag(paths)) == len(paths)

    return job


def decode_alone(size: int) -> Job:
    """As many threads as there are cores."""

    def job(paths: list[str]) -> None:
        with ThreadPoolExecutor(available_cpus()) as pool:
            for _ in pool.map(lambda path: load_image(path, Preprocessing(size)), paths):
                pass

    return job


def engine_alone(tagger: Tagger, size: int, batch: int) -> Job:
    """The engine on pictures that are decoded already."""
    kept: dict[str, Images] = {}

    def job(paths: list[str]) -> npt.NDArray[np.float32]:
        for path in paths:
            if path not in kept:
                kept[path] = load_image(path, Preprocessing(size))
        batches = (np.stack([kept[path] for path in group]) for group in grouped(paths, batch))
        return np.concatenate(list(tagger.engine.run(batches)))

    return job


def pytorch(network: Callable[[Tensor], Tensor], size: int, batch: int) -> Job:
    """A DataLoader with a worker for each core."""

    @torch.inference_mode()
    def job(paths: list[str]) -> npt.NDArray[np.float32]:
        loader = DataLoader(Photos(paths, size), batch, num_workers=available_cpus())
        return np.concatenate([network(images).numpy() for images in loader])

    return job


def onnx_runtime(path: Path, size: int, batch: int) -> Job:
    """A plain loop: decode a batch, run it."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def job(paths: list[str]) -> npt.NDArray[np.float32]:
        batches = (np.stack([decoded(path, size) for path in group]) for group in grouped(paths, batch))
        return np.concatenate([session.run(["scores"], {"images": images})[0] for images in batches])

    return job


def grouped(paths: list[str], size: int) -> Iterator[list[str]]:
    """The paths in groups of `size`."""
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def in_turns(jobs: dict[str, Job], paths: list[str], rounds: int, warm_up: int) -> dict[str, list[float]]:
    """Photos a second of each job, one figure a round, after a warm-up of each."""
    for job in jobs.values():
        job(paths[:warm_up])
    jobs[ENGINE](paths)  # decodes its pictures
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            started = time.perf_counter()
            job(paths)
            rates[name].append(len(paths) / (time.perf_counter() - started))
    return rates


if __name__ == "__main__":
    main()
