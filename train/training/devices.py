"""Where a training computes, and in which precision: what is asked for is there, or it is said that it is not."""

from dataclasses import replace

import torch

from mlzsl.cli.errors import UsageError
from mlzsl.train.models.graph_tensors import GraphTensors

DEVICES = ("cpu", "cuda")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_device(name: str, local_rank: int = 0) -> torch.device:
    """The device that a process computes on: the CPU, or the GPU of its place among this machine's processes.

    Raises:
        UsageError: an unknown name, no GPU, or fewer GPUs than processes; nothing falls back.
    """
    if name not in DEVICES:
        raise UsageError(f"--device {name}: expected one of {', '.join(DEVICES)}.")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = "PyTorch finds no NVIDIA GPU here" if torch.version.cuda else "this PyTorch is built without CUDA"
        raise UsageError(f"--device cuda: {why} (torch {torch.__version__}); train with --device cpu.")
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"--device cuda: process {local_rank + 1} of this machine has no GPU of its own, there are "
            f"{torch.cuda.device_count()}; start as many processes with torchrun --nproc-per-node."
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def check_precision(name: str, device: torch.device) -> None:
    """Whether a training can compute so on a device.

    Raises:
        UsageError: an unknown name, or a precision that the device does not compute in.
    """
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name}: expected one of {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: is for GPUs (--device cuda); on a CPU choose bf16 or fp32.")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UsageError(
            f"--precision bf16: {torch.cuda.get_device_name(device)} does not compute in bf16; choose fp16 or fp32."
        )


def device_name(device: torch.device) -> str:
    """What a record calls the device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def graph_on(graph: GraphTensors, device: torch.device) -> GraphTensors:
    """The graph on a device; itself if it is there."""
    if graph.embeddings.device == device:
        return graph
    return replace(
        graph,
        embeddings=graph.embeddings.to(device),
        edges=graph.edges.to(device),
        external_logits=graph.external_logits.to(device),
        is_a=graph.is_a.to(device),
    )
