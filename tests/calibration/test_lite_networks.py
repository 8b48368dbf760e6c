"""Networks with depthwise convolutions and ReLU6: their INT8 files run in integers, in every backend; those with layer
normalizations are refused."""

import dataclasses
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from litemodel import LAYERS, lite_network
from onnx import TensorProto
from residualmodel import scores_of, write_residual_model
from tinymodel import TinyModel, random_images

from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.conversion import backbone_nodes, convert_layers, convert_precision
from mlzsl.calibration.network import Network, open_network
from mlzsl.calibration.qdq import QDQ_SCHEMES, insert_qdq
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import UsageError
from mlzsl.engines.opening import open_engine

ANYTHING = Settings(count=30, check_count=30, threads=1, max_drop=100, min_agreement=0)


@pytest.fixture(scope="module")
def lite() -> Network:
    return Network(lite_network())


@pytest.fixture
def model(tmp_path: Path) -> TinyModel:
    return write_residual_model(tmp_path / "lite.onnx", lite_network())


def made(model: TinyModel, photos: Path, **changes: object) -> Path:
    return calibrate(model.path, [str(photos)], dataclasses.replace(ANYTHING, **changes), quiet=True).path


def quantized(model: onnx.ModelProto) -> set[str]:
    return {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def executed(engine: object) -> list[tuple[str, str, str]]:
    """Type, precision and output precision of the layers that OpenVINO runs."""
    infos = [layer.get_rt_info() for layer in engine._compiled.get_runtime_model().get_ops()]
    keys = ("layerType", "runtimePrecision", "outputPrecisions")
    return [tuple(str(info[key].value) for key in keys) for info in infos]


BEFORE_CONVOLUTIONS = {
    *("planes", "stem_relu6", "expand_relu6", "depthwise_relu6", "project", "expand2_relu6", "depthwise2_relu6", "sum")
}


@pytest.mark.parametrize("key", QDQ_SCHEMES)
def test_pairs_follow_relu6_and_stand_on_the_residual(lite: Network, key: tuple[str, str]) -> None:
    ranges = dict.fromkeys([*BEFORE_CONVOLUTIONS, "project2", "last_relu6"], (-6.0, 6.0))
    made = insert_qdq(lite, LAYERS, ranges, QDQ_SCHEMES[key])
    onnx.checker.check_model(made, full_check=True)
    behind = {"project2", "last_relu6"} if key[1] == "onnxruntime" else set()
    assert quantized(made) == BEFORE_CONVOLUTIONS | behind
    add = next(node for node in made.graph.node if node.output[0] == "sum")
    assert "project/dequantized" in add.input


def test_openvino_runs_every_convolution_in_integers_fused_with_relu6_and_residual(model, photos):
    with closing(open_engine(made(model, photos), threads=1)) as engine:
        layers = executed(engine)
    convolutions = [layer for layer in layers if layer[0] == "Convolution"]
    assert len(convolutions) == len(LAYERS)
    assert {precision for _, precision, _ in convolutions} <= {"u8", "i8"}
    assert sum(output == "u8" for _, _, output in convolutions) == len(LAYERS) - 1, "the last one writes floats"
    assert not [layer for layer in layers if layer[0] == "FakeQuantize"]
    additions = [layer for layer in layers if layer[0] == "Eltwise"]
    assert len(additions) <= 2, "the head's, and none of a residual or ReLU6"


@pytest.mark.parametrize(
    ("target", "backend"),
    [
        ("openvino", "openvino"),
        ("onnxruntime", "onnxruntime"),
        ("tensorrt", "onnxruntime"),
        ("openvino", "onnxruntime"),
    ],
)
def test_int8_scores_are_close_to_fp32(model, photos, target, backend):
    images = random_images(20, seed=4)
    with closing(open_engine(model.path, threads=1)) as engine:
        fp32 = engine.scores(images)
    with closing(open_engine(made(model, photos, target=target), backend=backend, threads=1)) as engine:
        difference = np.abs(engine.scores(images) - fp32)
    assert fp32.std() > 0.05, "scores that hardly vary prove nothing"
    assert 0 < difference.mean() < 0.03


@pytest.mark.parametrize("target", ["openvino", "tensorrt", "onnxruntime"])
def test_fused_scores_equal_those_of_the_operators_one_by_one(model, photos, target):
    network, images = onnx.load(made(model, photos, target=target)), random_images(4, seed=1)
    run = open_network(network, threads=1)
    np.testing.assert_allclose(run(images)[0], scores_of(network, images), atol=0.02, rtol=0)


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that a node writes, but of the scores."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in graph.value_info}


def test_relu6_computes_in_the_precision_of_the_convolution_before_it(lite):
    ranges, rest = dict.fromkeys(BEFORE_CONVOLUTIONS, (-6.0, 6.0)), [layer for layer in LAYERS if layer != "expand"]
    quantized = Network(insert_qdq(lite, rest, ranges, QDQ_SCHEMES["int8", "openvino"]))
    assert types(convert_layers(quantized, ["expand"], "bf16"))["expand_relu6"] == TensorProto.BFLOAT16
    found = types(convert_precision(lite, "bf16", backbone_nodes(lite)))
    assert found["expand_relu6"] == found["last_relu6"] == TensorProto.BFLOAT16
    assert found["mean"] == TensorProto.FLOAT


@pytest.mark.parametrize(("precision", "target"), [("fp16", None), ("int8", "tensorrt")])
def test_tensorrt_rtx_builds_a_plan(model, photos, precision, target):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install '.[rtx]'")
    from mlzsl.engines.tensorrt.build import build_plan
    from mlzsl.engines.tensorrt.options import BuildOptions

    path = made(model, photos, precision=precision, target=target)
    build = build_plan(path, options=BuildOptions(rtx=True), quiet=True)
    assert build.manifest.build.precisions[precision] >= len(LAYERS)


# Layer normalizations.


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_networks_with_layer_normalizations_are_refused_before_photos_are_read(tmp_path, precision):
    model = write_residual_model(tmp_path / "norm.onnx", lite_network(layer_norm=True), backbone="timm:vit_tiny")
    expected = rf"norm\.onnx: --precision {precision} .* timm:vit_tiny has layer normalizations.* --precision bf16"
    with pytest.raises(UsageError, match=expected):
        calibrate(model.path, ["nowhere"], dataclasses.replace(ANYTHING, precision=precision), quiet=True)


def test_bf16_reaches_to_the_last_layer_normalization():
    """The last convolution of a transformer is its first layer."""
    network = Network(lite_network(layer_norm=True))
    found = types(convert_precision(network, "bf16", backbone_nodes(network)))
    assert found["mean"] == found["normal"] == TensorProto.BFLOAT16
    assert found["products"] == TensorProto.FLOAT
