"""Plans built with TensorRT-RTX, which needs no GPU."""

import dataclasses
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from gpu import has_gpu
from onnx import TensorProto, helper
from PIL import Image
from resnetmodel import write_resnet18_model
from tinymodel import SIZE, TinyModel, network, random_images, write_tiny_model

from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import FailureError, MlzslError, UsageError
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.engines.artifact.plan_manifest import BatchProfile, manifest_path, read_plan, read_plan_golden
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tensorrt import library as tensorrt_library
from mlzsl.engines.tensorrt.build import Build, TimingCache, build_plan, build_progress
from mlzsl.engines.tensorrt.cli import main
from mlzsl.engines.tensorrt.library import open_library
from mlzsl.engines.tensorrt.options import BuildOptions, apply_options

trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install '.[rtx]'")
RTX = BuildOptions(rtx=True)


@pytest.fixture(scope="module")
def tiny_plan(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Build:
    return build_plan(tiny_model.path, tmp_path_factory.mktemp("plans") / "tiny.plan", RTX, quiet=True)


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8", "fp8"])
def resnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A whole ResNet-18 with its head, as exported, and what mlzsl-calibrate makes of it."""
    folder = tmp_path_factory.getbasetemp() / "resnet18"
    exported = folder / "resnet18.onnx"
    if not exported.is_file():
        folder.mkdir(exist_ok=True)
        write_resnet18_model(folder)
    if request.param == "fp32":
        yield "fp32", exported
        return
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    for place, image in enumerate(random_images(12, size=64)):
        Image.fromarray(image).save(photos / f"{place}.png")
    settings = Settings(request.param, "tensorrt" if request.param != "fp16" else None, max_drop=100, min_agreement=0)
    yield request.param, calibrate(exported, [str(photos)], settings, quiet=True).path


def test_a_resnet_becomes_a_plan_of_its_precision(resnet: tuple[str, Path]) -> None:
    precision, model = resnet
    batch = BatchProfile(1, 4, 64)
    build = build_plan(model, options=dataclasses.replace(RTX, batch=batch), quiet=True)
    assert build.path == model.with_suffix(".plan")
    assert build.ports == "images uint8 [N, 224, 224, 3] → scores float32 [N, 20]"
    manifest, plan = read_plan(build.path)
    assert manifest.model == read_manifest(model)
    assert manifest.build.batch == batch
    assert (manifest.build.library, manifest.build.version) == ("tensorrt_rtx", trt.__version__)
    computing = manifest.build.precisions
    assert computing[precision] >= 20, "a ResNet-18 has 20 convolutions"
    assert set(computing) <= {precision, "uint8", "fp32"}
    if precision == "fp16":
        assert computing.get("fp32", 0) < 5, "only what stands beside the uint8 input and the float32 output"
    fp32_size = model.with_name("resnet18.onnx").stat().st_size
    share = {"fp32": 1, "fp16": 1 / 2}.get(precision, 1 / 4)
    assert 0.5 * share * fp32_size < len(plan) < 2 * share * fp32_size


def test_a_file_that_is_quantized_for_another_backend_is_refused(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", precision="int8", quantized_for="openvino").path
    assert "is quantized for openvino, expected for tensorrt" in refused(model)
    assert "mlzsl-calibrate --precision int8 --for tensorrt" in refused(model)


def test_the_plan_has_labels_and_golden_sample(tiny_plan: Build, tiny_model: TinyModel) -> None:
    assert tiny_plan.manifest.model == tiny_model.manifest
    golden = read_golden(tiny_model.path)
    np.testing.assert_array_equal(read_plan_golden(tiny_plan.path).images, golden.images)
    np.testing.assert_array_equal(read_plan_golden(tiny_plan.path).scores, golden.scores)


def test_the_layers_are_those_of_the_network(tiny_plan: Build) -> None:
    assert tiny_plan.manifest.build.layers == len(tiny_plan.layers) > 1
    assert any("node_of_maps" in layer.name for layer in tiny_plan.layers), "the convolution's node"
    assert {layer.precision for layer in tiny_plan.layers} == {"uint8", "fp32", ""}


@pytest.mark.parametrize("place", [0, 0.3, 0.9])
def test_a_flipped_byte_in_a_real_plan_is_refused(tiny_plan: Build, tmp_path: Path, place: float) -> None:
    copied = tmp_path / "copy.plan"
    data = bytearray(tiny_plan.path.read_bytes())
    data[int(place * len(data))] ^= 0xFF
    copied.write_bytes(data)
    manifest_path(copied).write_bytes(manifest_path(tiny_plan.path).read_bytes())
    with pytest.raises(UsageError, match=r"copy\.plan: .*SHA-256.*mlzsl-build model\.onnx --batch 1,8,32 --rtx"):
        open_engine(copied, device="cuda")


def test_swapped_manifests_of_real_plans_are_refused(tiny_plan: Build, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other.onnx", model="RGCN")
    plan = build_plan(other.path, options=dataclasses.replace(RTX, batch=BatchProfile(1, 2, 4)), quiet=True).path
    manifest_path(plan).write_bytes(manifest_path(tiny_plan.path).read_bytes())
    with pytest.raises(UsageError, match=r"other\.plan\.json .*swapped"):
        open_engine(plan, device="cuda")


def test_the_build_record_names_the_gpus(tiny_model: TinyModel, tmp_path: Path) -> None:
    options = dataclasses.replace(RTX, compute_capabilities=("8.9", "sm86", "89"))
    build = build_plan(tiny_model.path, tmp_path / "named.plan", options, quiet=True)
    assert build.manifest.build.compute_capabilities == ("8.9", "8.6")


def refused(model: Path, kind: type[MlzslError] = UsageError, **options: object) -> str:
    """The sentence that refuses a build; nothing is written."""
    target = model.with_suffix(".plan")
    with pytest.raises(kind) as caught:
        build_plan(model, target, dataclasses.replace(RTX, **options), quiet=True)
    assert not target.exists()
    assert not manifest_path(target).exists()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "_src" not in sentence, "no places in the library's source code"
    return sentence


@pytest.mark.skipif(has_gpu(), reason="has a GPU")
def test_strip_weights_needs_a_gpu(model: Path) -> None:
    sentence = refused(model, strip_weights=True)
    assert sentence.startswith("--strip-weights: ")
    assert "on machines with a GPU only" in sentence


def test_an_option_that_the_library_ignores_with_a_warning_is_an_error() -> None:
    library = open_library("tensorrt_rtx", "a test")
    config = trt.Builder(library.logger).create_builder_config()
    with pytest.raises(UsageError, match=r"--hardware ampere-plus: TensorRT-RTX .* refuses it .*unsupported"):
        apply_options(library, config, BuildOptions(rtx=True, hardware="ampere-plus"))


def test_an_interrupt_ends_a_build(model: Path) -> None:
    library = open_library("tensorrt_rtx", "a test")
    builder = trt.Builder(library.logger)
    built = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(built, library.logger).parse(model.read_bytes())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("images", *[(1, SIZE, SIZE, 3)] * 3)
    config.add_optimization_profile(profile)
    handler = signal.getsignal(signal.SIGINT)
    plans = []

    def build() -> None:
        with build_progress(library, config, quiet=True):
            signal.raise_signal(signal.SIGINT)
            plans.append(builder.build_serialized_network(built, config))

    with pytest.raises(KeyboardInterrupt):
        build()
    assert plans == [None], "the builder stopped"
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")
def test_a_timing_cache_is_saved_by_gpu_and_version_and_replaced_if_damaged(tmp_path: Path) -> None:
    library = open_library("tensorrt_rtx", "a test")
    config = trt.Builder(library.logger).create_builder_config()
    first = TimingCache(library, config, tmp_path, "NVIDIA L4")
    first.save()
    assert first.path.name == f"timing-tensorrt-rtx-{trt.__version__}-NVIDIA-L4.cache"
    kept = first.path.read_bytes()
    assert kept
    first.path.write_bytes(b"damaged")
    TimingCache(library, config, tmp_path, "NVIDIA L4").save()
    assert first.path.read_bytes() == kept
    assert TimingCache(library, config, tmp_path, "NVIDIA A10").path != first.path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model.onnx").path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": BatchProfile(0, 1, 2)}, ["--batch 0,1,2", "1,8,32"]),
        ({"batch": BatchProfile(4, 2, 8)}, ["--batch 4,2,8"]),
        ({"batch": BatchProfile(1, 2, 1_000_000)}, ["--batch"]),
        ({"optimization_level": 6}, ["--optimization-level 6", "0 to 5"]),
        ({"workspace_mib": 0}, ["--workspace 0"]),
        ({"compute_capabilities": ("9.0",)}, ["--compute-capability 9.0", "8.9", "12.0"]),
        ({"compute_capabilities": ("ada",)}, ["--compute-capability ada", "8.9"]),
        ({"hardware": "all"}, ["--hardware all", "ampere-plus"]),
        ({"version_compatible": True}, ["--version-compatible", "TensorRT-RTX"]),
        ({"hardware": "ampere-plus"}, ["--hardware ampere-plus", "TensorRT-RTX", "--compute-capability"]),
        ({"timing_cache": Path("times")}, ["--timing-cache", "TensorRT-RTX"]),
    ],
    ids=str,
)
def test_a_wrong_or_unsupported_option_is_refused(model: Path, options: dict, words: list[str]) -> None:
    sentence = refused(model, **options)
    assert all(word in sentence for word in words), sentence


def test_too_little_workspace_is_an_error(model: Path) -> None:
    sentence = refused(model, workspace_mib=1, batch=BatchProfile(64, 64, 64))
    assert sentence.startswith("--workspace 1: too little for")


def test_a_gpu_that_cannot_compute_the_network_is_an_error(model: Path) -> None:
    sentence = refused(model, FailureError, compute_capabilities=("7.5",))
    assert "FP32 GEMM is not supported" in sentence
    assert "--compute-capability" in sentence


def broken(tmp_path: Path, *nodes: onnx.NodeProto) -> Path:
    """The tiny model file with other nodes between its input and its output."""
    made = onnx.load_from_string(network())
    del made.graph.node[:]
    del made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.opset_import.append(helper.make_opsetid("my.ops", 1))
    return write_tiny_model(tmp_path / "broken.onnx", made.SerializeToString()).path


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    unknown = helper.make_node("Frobnicate", ["images"], ["scores"], name="head/frob", domain="my.ops")
    sentence = refused(broken(tmp_path, unknown), FailureError)
    assert "broken.onnx" in sentence
    assert "node head/frob (Frobnicate)" in sentence
    assert "Plugin not found" in sentence


def test_an_operator_that_the_parser_refuses_is_named_with_its_reason(tmp_path: Path) -> None:
    early = helper.make_node("Transpose", ["images"], ["planes"], name="early", perm=[0, 3, 1, 2])
    cast = helper.make_node("Cast", ["planes"], ["scores"], to=TensorProto.FLOAT)
    sentence = refused(broken(tmp_path, early, cast), FailureError)
    assert "node early (Transpose)" in sentence
    assert "UInt8" in sentence


def test_a_network_that_does_not_match_its_manifest_is_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.onnx", network(output="answers")).path
    assert "answers" in refused(path)


def test_a_damaged_model_file_is_refused(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[len(data) // 3] ^= 1
    model.write_bytes(data)
    assert "model.onnx" in refused(model)


def test_another_suffix_than_plan_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--output .*model\.engine.*model\.plan"):
        build_plan(model, tmp_path / "model.engine", RTX, quiet=True)


def test_an_older_library_is_refused(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setitem(tensorrt_library.OLDEST, "tensorrt_rtx", (99, 0))
    assert "99.0 or later is needed" in refused(model)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_builds_and_prints_a_summary(model: Path) -> None:
    result = run(model, "--rtx", "--batch", 16, "--layers")
    assert result.exit_code == 0, result.output
    plan = model.with_suffix(".plan")
    assert read_plan(plan)[0].build.batch == BatchProfile(1, 16, 16)
    for told in (
        f"images uint8 [N, {SIZE}, {SIZE}, 3]",
        "1 to 16",
        "fp32",
        "node_of_maps",
        "tensorrt_rtx",
        "model.plan",
    ):
        assert told in result.stdout


def test_json_is_json_and_quiet_is_silent(model: Path) -> None:
    result = run(model, "--rtx", "--json")
    record = json.loads(result.stdout)
    assert result.stderr == ""
    assert record["build"]["batch"] == {"min": 1, "opt": 8, "max": 32}
    assert record["plan_bytes"] == model.with_suffix(".plan").stat().st_size
    assert len(record["layers"]) == record["build"]["layers"]
    assert run(model, "--rtx", "--quiet").output == ""
    refused = run(model, "--rtx", "--quiet", "--layers")
    assert (refused.exit_code, "--layers: has no effect with --quiet" in refused.stderr) == (2, True)


def test_engine_names_the_model_file_as_well(model: Path) -> None:
    assert run("--engine", model, "--rtx", "--quiet").exit_code == 0
    assert model.with_suffix(".plan").is_file()


@pytest.mark.parametrize("batch", ["1,2", "a", "", "1,2,3,4", "1,,3", "-1"])
def test_a_malformed_batch_is_a_usage_error(model: Path, batch: str) -> None:
    result = run(model, "--rtx", f"--batch={batch}")
    assert result.exit_code == 2
    assert "--batch" in result.stderr
    assert "Traceback" not in result.output


def test_help_has_examples() -> None:
    told = run("--help").stdout
    assert "mlzsl-build --rtx" in told
    assert "--device cuda" in told
