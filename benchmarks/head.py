"""How much faster is the folded head than the unfolded one, in each engine, and by how much do scores differ?

Both heads are exported alone (features and logits in, scores out) on the class graph of a label set with the external
classes of ImageNet, and run interleaved on the same random inputs in one process.

    python benchmarks/head.py [--labels coco80] [--batch 8] [--repeats 30] [--threads 2]
"""

import statistics
import time
from collections.abc import Callable

import click
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from rich.console import Console
from rich.table import Table

from mlzsl.export.cost_sheet import multiply_adds
from mlzsl.export.folding.fold import fold
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.models.model import graph_tensors
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


@click.command()
@click.option("--labels", default="coco80", help="The label set.")
@click.option("--embeddings", default="taxonomy", help="taxonomy, or a text file in GloVe's format.")
@click.option("--features", default=2048, help="F, the width of the features (ResNet-50 and -101: 2048).")
@click.option("--batch", default=8, help="Images a call.")
@click.option("--repeats", default=30, help="Timed calls of each head; medians are shown.")
@click.option("--threads", default=2, help="Threads of each engine.")
def main(labels: str, embeddings: str, features: int, batch: int, repeats: int, threads: int) -> None:
    """Compare the folded head with the unfolded one."""
    torch.manual_seed(0)
    label_set = load_label_set(labels)
    graph = build_class_graph(label_set, label_set.labels, load_label_set("imagenet1k"), open_embeddings(embeddings))
    tensors = graph_tensors(graph)
    model = RGCNPosVAE(RGCNPosVAEConfig(features, tensors.embeddings.shape[1])).eval()
    heads = {"unfolded": unfolded_head(model, tensors), "folded": fold(model, tensors)}
    x = torch.rand(batch, features)
    logits = 3 * torch.randn(batch, 1000)
    with torch.inference_mode():
        reference = model.double()(
            x.double(), tensors.external_probabilities(logits.double()), tensors.double()
        ).numpy()
    model.float()

    table = Table(
        title=f"{len(graph.targets)} labels + {len(graph.externals)} external classes, {graph.edges:,} edges, "
        f"batch {batch}, {threads} threads, median of {repeats}",
        title_justify="left",
    )
    for heading in ("engine", "head", "M multiply-adds an image", "ms an image", "speed-up", "largest difference"):
        table.add_column(heading, justify="left" if heading in ("engine", "head") else "right")
    networks = {name: to_onnx(head, x, logits) for name, head in heads.items()}
    for engine, opened in {"ONNX Runtime": onnx_runtime, "OpenVINO": open_vino}.items():
        runs = {name: opened(network, threads) for name, network in networks.items()}
        milliseconds = interleaved_times(runs, x.numpy(), logits.numpy(), repeats)
        for name, run in runs.items():
            difference = np.abs(run(x.numpy(), logits.numpy()) - reference).max()
            table.add_row(
                engine,
                name,
                f"{multiply_adds(heads[name], x[:1], logits[:1]) / 1e6:,.0f}",
                f"{milliseconds[name] / batch:.2f}",
                f"{milliseconds['unfolded'] / milliseconds[name]:.1f}",
                f"{difference:.1e}",
            )
    Console(width=140).print(table)


def to_onnx(head: torch.nn.Module, x: torch.Tensor, logits: torch.Tensor) -> bytes:
    """Serialize a head with a dynamic batch."""
    batch = torch.export.Dim("N")
    program = torch.onnx.export(
        head, (x, logits), dynamo=True, dynamic_shapes=({0: batch}, {0: batch}), opset_version=20, verbose=False
    )
    onnx.checker.check_model(program.model_proto)
    return program.model_proto.SerializeToString()


def onnx_runtime(network: bytes, threads: int) -> Run:
    """The network in ONNX Runtime's CPU provider, fp32."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def open_vino(network: bytes, threads: int) -> Run:
    """The network in OpenVINO's CPU plugin, fp32, all threads on one call."""
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(network), "CPU", settings)
    return lambda *inputs: compiled(list(inputs))[0].copy()


def interleaved_times(runs: dict[str, Run], x: np.ndarray, logits: np.ndarray, repeats: int) -> dict[str, float]:
    """Median milliseconds a call of each run, interleaved after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 3):
        for name, run in runs.items():
            started = time.perf_counter()
            run(x, logits)
            if repeat >= 3:
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
