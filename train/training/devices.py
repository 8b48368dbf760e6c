"""The device and precision of a training; one that is not available is an error, nothing falls back."""

import torch

from mlzsl.cli.errors import UsageError

DEVICES = ("cpu", "cuda")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a process: the CPU, or the GPU of its local rank.

    Raises:
        UsageError: an unknown name, no GPU, or fewer GPUs than processes.
    """
    if name not in DEVICES:
        raise UsageError(f"--device {name}: expected one of {', '.join(DEVICES)}.")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = "PyTorch finds no NVIDIA GPU" if torch.version.cuda else "this PyTorch is built without CUDA"
        raise UsageError(f"--device cuda: {why} (torch {torch.__version__}); train with --device cpu.")
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"--device cuda: {local_rank + 1} processes or more, but {torch.cuda.device_count()} GPUs on this machine; "
            "start one process per GPU with torchrun --nproc-per-node."
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def check_precision(name: str, device: torch.device) -> None:
    """Check that a device computes in a precision.

    Raises:
        UsageError: an unknown name, or the device does not.
    """
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name}: expected one of {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: needs a GPU (--device cuda); choose bf16 or fp32 on a CPU.")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UsageError(
            f"--precision bf16: {torch.cuda.get_device_name(device)} does not compute in bf16; choose fp16 or fp32."
        )


def device_name(device: torch.device) -> str:
    """The name of a device in records: "cpu", or that of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
