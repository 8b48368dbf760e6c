"""Opening a plan: whatever prevents it from running is one sentence."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from gpu import has_gpu
from msgspec.structs import replace
from tinymodel import TinyModel

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.modelfile import read_golden
from mlzsl.engines.artifact.plan_manifest import BatchProfile, manifest_path, read_plan, write_plan_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tensorrt.build import build_plan
from mlzsl.engines.tensorrt.engine import open_plan
from mlzsl.engines.tensorrt.options import BuildOptions
from mlzsl.runtime.tagging.cli import main as infer
from mlzsl.runtime.verify.cli import main as verify

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install '.[rtx]'")
pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[rtx]'")


without_gpu = pytest.mark.skipif(has_gpu(), reason="has a GPU")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    options = BuildOptions(rtx=True, batch=BatchProfile(2, 4, 8))
    return build_plan(tiny_model.path, tmp_path_factory.mktemp("plans") / "tiny.plan", options, quiet=True).path


@pytest.fixture
def plan(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    for source in (built, manifest_path(built)):
        shutil.copy(source, tmp_path)
    return tmp_path / built.name


def refused(path: Path, **how: object) -> str:
    with pytest.raises(UsageError) as caught:
        open_engine(path, **{"device": "cuda"} | how)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def with_record(plan: Path, model: TinyModel, **changes: object) -> None:
    """Change the build record of a plan; its checksum stays valid."""
    manifest, _ = read_plan(plan)
    changed = replace(manifest, build=replace(manifest.build, **changes))
    write_plan_manifest(plan, changed, read_golden(model.path))


def test_a_plan_does_not_run_on_a_cpu(plan: Path) -> None:
    assert "--device cuda" in refused(plan, device="cpu")


def test_the_library_cannot_be_chosen(plan: Path) -> None:
    assert "--backend onnxruntime" in refused(plan, backend="onnxruntime")


def test_a_plan_runs_in_its_own_precision_only(plan: Path) -> None:
    assert "--precision bf16" in refused(plan, precision="bf16")


def test_a_missing_plan_or_manifest_is_refused(plan: Path) -> None:
    assert "mlzsl-build" in refused(plan.with_name("none.plan"))
    manifest_path(plan).unlink()
    assert "tiny.plan.json is missing" in refused(plan)


def test_a_plan_of_another_version_is_refused(plan: Path, tiny_model: TinyModel) -> None:
    with_record(plan, tiny_model, version="1.6.1.120")
    sentence = refused(plan)
    assert "1.6.1.120" in sentence
    assert "mlzsl-build model.onnx --batch 2,4,8 --rtx" in sentence


def test_a_plan_of_another_platform_is_refused(plan: Path, tiny_model: TinyModel) -> None:
    with_record(plan, tiny_model, platform="win32 amd64")
    assert "win32 amd64" in refused(plan)


def test_a_plan_whose_library_is_not_installed_names_the_extra(plan: Path, tiny_model: TinyModel) -> None:
    with_record(plan, tiny_model, library="tensorrt", version="11.4.0.106", compute_capabilities=("8.9",))
    sentence = refused(plan)
    assert "tiny.plan: needs TensorRT" in sentence
    assert "mlzsl[tensorrt]" in sentence


@without_gpu
def test_a_missing_driver_or_gpu_is_an_error(plan: Path) -> None:
    sentence = refused(plan)
    assert "tiny.plan: a plan runs on an NVIDIA GPU" in sentence
    assert "no CUDA driver" in sentence or "no usable GPU" in sentence


@without_gpu
@pytest.mark.parametrize(("command", "words"), [(infer, ["--engine"]), (verify, [])])
def test_the_commands_end_in_that_sentence(plan: Path, tmp_path: Path, command, words: list[str]) -> None:
    photos = [str(tmp_path)] if words else []
    result = CliRunner().invoke(command, [*photos, *words, str(plan), "--device", "cuda"])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stderr.strip().splitlines()[-1].count("error: ") == 1


def test_an_unknown_allocator_is_refused(plan: Path) -> None:
    with pytest.raises(UsageError, match=r"memory='cupy'.*cuda-core or pycuda"):
        open_plan(plan, memory="cupy")


def test_a_missing_pycuda_names_the_extra(plan: Path) -> None:
    if importlib.util.find_spec("pycuda"):
        pytest.skip("PyCUDA is installed here")
    with pytest.raises(UsageError, match=r"PyCUDA.*mlzsl\[pycuda\]"):
        open_plan(plan, memory="pycuda")
