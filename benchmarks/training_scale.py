"""How long is an epoch of head training on MS-COCO's 79,465 photos, and how much memory does it take?

Features of that number and width, random; labels as sparse as COCO's, at least one a photo; the WUP graph of the 64
seen labels and 984 classes of ImageNet. Each model takes single steps of the training loop in a process of its own; an
epoch is extrapolated as the median step times the number of steps. Where other work runs beside it, look at
processor time.

    python benchmarks/training_scale.py [--device cpu] [--precision fp32] [--steps 20] [--threads 2]
"""

import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import UNSEEN, LabelSet, load_label_set
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_adjacency
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.registry import MODELS, create_model, settings_of
from mlzsl.train.training.devices import check_precision, device_name, open_device
from mlzsl.train.training.trainer import Trainer, TrainingConfig, TrainingData

EXTERNALS = 984  # as in the paper; in our graph of coco80 they are 978, as 22 classes are some label's synset
LABELS_A_PHOTO = 2.3  # of the 64 seen ones: COCO photos carry 2.9 of 80 in the mean
WARM_UP = 3


@dataclass(frozen=True)
class Setting:
    """One measurement."""

    model: str
    device: str
    precision: str
    photos: int
    features: int
    batch: int
    steps: int
    threads: int


@dataclass(frozen=True)
class Figures:
    """Seconds of each step, wall and processor time; MiB of data, peak resident memory, peak GPU memory."""

    device: str
    parameters: int
    seconds: list[float]
    processor_seconds: list[float]
    data_mib: float
    peak_mib: float
    gpu_mib: float | None


@click.command()
@click.option("--model", "models", multiple=True, default=("visual-semantic", "RGCN-PosVAE"), show_default=True)
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--precision", "precisions", multiple=True, default=("fp32",), help="fp32, bf16, fp16; may be given several times."
)
@click.option("--photos", default=79_465, help="Of the training set.")
@click.option("--features", default=2048, help="F, the width of the features.")
@click.option("--batch", default=32, help="Photos a step.")
@click.option("--steps", default=20, help="Steps measured, after 3 that are not.")
@click.option("--threads", default=2, help="CPU threads.")
def main(models: tuple[str, ...], precisions: tuple[str, ...], **same: Any) -> None:
    """Measure steps of each model in each precision."""
    settings = [Setting(model, precision=precision, **same) for model in models for precision in precisions]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        measured = [pool.submit(measure, setting).result() for setting in settings]
    first = settings[0]
    steps = -(-first.photos // first.batch)
    table = Table(
        title=f"{measured[0].device}, {first.threads} threads; {first.photos:,} × {first.features:,} features, "
        f"64 labels + {EXTERNALS} external classes, batch {first.batch}; median of {first.steps} steps, "
        f"an epoch = {steps:,} of them",
        title_justify="left",
    )
    headings = (
        "model", "precision", "parameters", "ms a step", "min to max", "processor ms", "s an epoch", "data, MiB",
        "peak resident, MiB", "peak on the GPU, MiB",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "precision") else "right")
    for setting, figures in zip(settings, measured, strict=True):
        median = statistics.median(figures.seconds)
        table.add_row(
            setting.model,
            setting.precision,
            f"{figures.parameters / 1e6:.1f} M",
            f"{1000 * median:.1f}",
            f"{1000 * min(figures.seconds):.1f} to {1000 * max(figures.seconds):.1f}",
            f"{1000 * statistics.median(figures.processor_seconds):.1f}",
            f"{median * steps:,.0f}",
            f"{figures.data_mib:,.0f}",
            f"{figures.peak_mib:,.0f}",
            "–" if figures.gpu_mib is None else f"{figures.gpu_mib:,.0f}",
        )
    Console(width=170).print(table)


def measure(setting: Setting) -> Figures:
    """Time single steps of the loop."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    device = open_device(setting.device)
    check_precision(setting.precision, device)
    graph = paper_sized_graph().to(device)
    data = random_data(setting.photos, setting.features, graph.num_targets).to(device)
    known = {"feature_dim": setting.features, "embedding_dim": graph.embeddings.shape[1]}
    needed = settings_of(setting.model)
    config = MODELS[setting.model].config_class(**{key: known[key] for key in known if key in needed})
    model = create_model(setting.model, asdict(config)).to(device).train()
    trainer = Trainer(model, graph, data, TrainingConfig(precision=setting.precision))
    _, noise = trainer.generators(epoch=0)
    seconds, processor_seconds = [], []
    for step, chosen in enumerate(torch.randperm(setting.photos).split(setting.batch)[: WARM_UP + setting.steps]):
        started, processor_started = time.perf_counter(), time.process_time()
        trainer.train_step(chosen, noise)  # reads the losses: the device is done
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - started)
            processor_seconds.append(time.process_time() - processor_started)
    tensors = (data.features, data.external_probabilities, data.targets)
    return Figures(
        device_name(device),
        sum(each.numel() for each in model.parameters()),
        seconds,
        processor_seconds,
        sum(each.nbytes for each in tensors) / 2**20,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None,
    )


def paper_sized_graph() -> GraphTensors:
    """The 64 seen labels of coco80 and the first 984 classes of ImageNet that are none of them."""
    coco, imagenet = load_label_set("coco80"), load_label_set("imagenet1k")
    seen = [place for place, label in enumerate(coco.labels) if label not in UNSEEN["coco80"]]
    targets = LabelSet("seen", tuple(coco.labels[n] for n in seen), tuple(coco.synsets[n] for n in seen))
    places = np.arange(EXTERNALS)
    externals = LabelSet("externals", imagenet.labels[:EXTERNALS], imagenet.synsets[:EXTERNALS])
    embeddings = open_embeddings("taxonomy")
    vectors = [embeddings.embed(targets, "target").vectors, embeddings.embed(externals, "external").vectors]
    similar = wup_adjacency(Taxonomy.shipped(), targets.synsets + externals.synsets, 0.5)
    adjacency = similar | similar.T
    np.fill_diagonal(adjacency, False)
    return GraphTensors(
        torch.from_numpy(np.concatenate(vectors)),
        torch.from_numpy(np.ascontiguousarray(np.stack(adjacency.nonzero()))),
        torch.from_numpy(places),
        len(seen),
    )


def random_data(photos: int, features: int, labels: int) -> TrainingData:
    """Random features, external probabilities as peaked as a softmax's, and few labels a photo."""
    targets = (torch.rand(photos, labels) < LABELS_A_PHOTO / labels).float()
    targets[torch.arange(photos), torch.randint(labels, (photos,))] = 1
    probabilities = torch.empty(photos, EXTERNALS)
    for rows in probabilities.split(4096):  # whole tensors of logits would be the peak of memory
        rows.copy_((3 * torch.randn(rows.shape)).softmax(dim=1))
    return TrainingData(torch.rand(photos, features), probabilities, targets)


if __name__ == "__main__":
    main()
