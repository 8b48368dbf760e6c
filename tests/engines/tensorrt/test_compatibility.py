"""The compatibility of a plan with a machine is checked before it is loaded; errors name the remedy."""

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace
from planrecord import RECORD

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.plan_manifest import BuildRecord
from mlzsl.engines.tensorrt.compatibility import check_gpu, check_version
from mlzsl.engines.tensorrt.cuda import Gpu

PLAN, LINUX = Path("model.plan"), "linux x86_64"
L4, A100, T4 = Gpu("NVIDIA L4", "8.9", "13.1"), Gpu("NVIDIA A100", "8.0", "12.8"), Gpu("Tesla T4", "7.5", "13.0")


def record(**changes: object) -> BuildRecord:
    return replace(RECORD, **changes)


def refused(caught: pytest.ExceptionInfo[UsageError], *words: str) -> None:
    sentence = str(caught.value)
    assert all(word in sentence for word in ("model.plan", *words)), sentence


@pytest.mark.parametrize(
    ("changes", "installed"),
    [
        ({}, "11.4.0.106"),
        ({"version_compatible": True}, "11.4.0.107"),
        ({"version_compatible": True}, "11.10.0.1"),
        ({"version_compatible": True}, "12.0.0.1"),
        ({"library": "tensorrt_rtx", "version": "1.7.1.116"}, "1.7.1.116"),
    ],
)
def test_a_compatible_version_passes(changes: dict, installed: str) -> None:
    check_version(PLAN, record(**changes), installed, LINUX)


@pytest.mark.parametrize(
    ("changes", "installed"),
    [
        ({}, "11.4.0.107"),
        ({}, "10.13.0.35"),
        ({"version_compatible": True}, "11.3.0.99"),
        ({"library": "tensorrt_rtx", "version": "1.7.1.116"}, "1.6.1.120"),
    ],
)
def test_a_plan_of_another_version_is_refused(changes: dict, installed: str) -> None:
    made = record(**changes)
    with pytest.raises(UsageError) as caught:
        check_version(PLAN, made, installed, LINUX)
    refused(caught, made.version, installed, "rebuild with `mlzsl-build model.onnx")


def test_a_plan_of_another_platform_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        check_version(PLAN, record(platform="win32 amd64"), "11.4.0.106", LINUX)
    refused(caught, "win32 amd64", LINUX, "mlzsl-build")


@pytest.mark.parametrize(
    ("changes", "gpu"),
    [
        ({}, L4),
        ({"hardware": "same-capability"}, dataclasses.replace(L4, name="NVIDIA GeForce RTX 4090")),
        ({"hardware": "ampere-plus"}, dataclasses.replace(A100, driver="13.0")),
        ({"library": "tensorrt_rtx", "compute_capabilities": ()}, T4),
        ({"library": "tensorrt_rtx", "compute_capabilities": ("7.5", "8.6")}, T4),
    ],
)
def test_a_compatible_gpu_passes(changes: dict, gpu: Gpu) -> None:
    check_gpu(PLAN, record(**changes), gpu, 13)
    check_gpu(PLAN, record(**changes), gpu, None)


@pytest.mark.parametrize(
    ("changes", "gpu"),
    [
        ({}, T4),
        ({"compute_capabilities": ("8.0",)}, L4),
        ({"hardware": "ampere-plus"}, T4),
        ({"library": "tensorrt_rtx", "compute_capabilities": ("8.6", "12.0")}, L4),
    ],
)
def test_a_plan_for_another_gpu_is_refused(changes: dict, gpu: Gpu) -> None:
    with pytest.raises(UsageError) as caught:
        check_gpu(PLAN, record(**changes), gpu, 13)
    refused(caught, gpu.name, gpu.compute_capability, "mlzsl-build")


def test_a_driver_that_is_too_old_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        check_gpu(PLAN, record(compute_capabilities=("8.0",)), A100, 13)
    refused(caught, "CUDA 13", "12.8", "update")
