"""Compatibility of a plan with this machine, decided from its build record before a library loads it."""

from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.plan_manifest import LIBRARIES, BuildRecord
from mlzsl.engines.tensorrt.cuda import Gpu
from mlzsl.engines.tensorrt.library import version_numbers

AMPERE = (8, 0)


def check_version(plan: Path, record: BuildRecord, installed: str, platform: str) -> None:
    """Check the library's version and the operating system.

    Args:
        plan: for the message.
        record: how the plan was built.
        installed: version of the installed library.
        platform: this machine's, from `library.this_platform`.

    Raises:
        UsageError: the plan was built for another version or platform.
    """
    if record.platform != platform:
        raise UsageError(
            f"{plan}: was built on {record.platform}, and this is {platform}; plans are not portable, "
            f"{record.rebuild(plan)}."
        )
    if installed == record.version or (
        record.version_compatible and version_numbers(installed) >= version_numbers(record.version)
    ):
        return
    hint = ""
    if record.library == "tensorrt":
        hint = (
            " (it runs on this and later versions)"
            if record.version_compatible
            else " (later ones need --version-compatible)"
        )
    raise UsageError(
        f"{plan}: was built with {LIBRARIES[record.library]} {record.version}{hint}, and {installed} is installed; "
        f"install that version, or {record.rebuild(plan)}."
    )


def check_gpu(plan: Path, record: BuildRecord, gpu: Gpu, cuda_major: int | None) -> None:
    """Check the driver and the GPU.

    Args:
        plan: for the message.
        record: how the plan was built.
        gpu: of this machine.
        cuda_major: major CUDA version of the library; None where it is unknown.

    Raises:
        UsageError: the driver is too old, or the plan was built for another GPU.
    """
    if cuda_major is not None and version_numbers(gpu.driver)[0] < cuda_major:
        raise UsageError(
            f"{plan}: needs a driver for CUDA {cuda_major}, and the driver of {gpu.name} is for CUDA {gpu.driver}; "
            f"update it, or install {LIBRARIES[record.library]} for CUDA {version_numbers(gpu.driver)[0]}."
        )
    if not _runs_on(record, gpu.compute_capability):
        built_for = ", ".join(record.compute_capabilities) + (" and later" if record.hardware == "ampere-plus" else "")
        on = f" on {record.gpu}" if record.gpu else ""
        raise UsageError(
            f"{plan}: was built{on} for compute capability {built_for}, and {gpu.name} has {gpu.compute_capability}; "
            f"{record.rebuild(plan)} on this machine"
            + (" without --compute-capability." if record.library == "tensorrt_rtx" else ".")
        )


def _runs_on(record: BuildRecord, capability: str) -> bool:
    if record.hardware == "ampere-plus":
        return version_numbers(capability) >= AMPERE
    return not record.compute_capabilities or capability in record.compute_capabilities
