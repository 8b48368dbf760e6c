"""Log messages of the libraries as ends of sentences, and their lists of layers. Needs no library."""

import pytest

from mlzsl.engines.tensorrt.library import Layer, Messages, clean_message, parse_layers, precisions, version_numbers

NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at /_src/checkMacros.cpp:250"
    " (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check] Cannot compile operation "
            "'a' for Turing (SM75): FP32 GEMM is not supported. In compileGraph at /_src/codeGenerator.cpp:2012)",
            "Cannot compile operation 'a' for Turing (SM75): FP32 GEMM is not supported",
        ),
        (
            "ITensor::getDimensions: Error Code 4: API Usage Error (early: first input has type UInt8 but must have "
            "type Float or Bool. In checkType at /_src/optimizer/common/nodeBase.cpp:456)",
            "early: first input has type UInt8 but must have type Float or Bool",
        ),
        (
            "The engine plan file\n  is generated on another device.",
            "The engine plan file is generated on another device",
        ),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_a_message_is_cleaned_of_source_code_locations(message: str, expected: str) -> None:
    assert clean_message(message) == expected


def test_the_reason_is_the_first_error_that_is_not_about_the_missing_gpu() -> None:
    messages = Messages()
    assert messages.reason() == "it gives no reason"
    for severity, message in [
        ("ERROR", NO_DRIVER),
        ("WARNING", "slow"),
        ("ERROR", "No such operator."),
        ("ERROR", "Gone."),
    ]:
        messages.log(severity, message)
    assert messages.reason() == "No such operator"
    only_driver = Messages()
    only_driver.log("ERROR", "Cuda failure, cudaError 35: driver is insufficient")
    assert "insufficient" in only_driver.reason()


RTX_LISTING = """Layers:
Name: shapes, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata:
Name: cast, LayerType: kgen, Inputs: [ { Name: images, Dimensions: [-1,8,8,3], Datatype: UInt8 }], Outputs: []
Name: conv, LayerType: correlation, Inputs: [ { Name: a, Datatype: Int8 }, { Name: b, Datatype: Float }]\
, Outputs: [ { Name: c, Datatype: Half } ]

I/O Tensors:
 Name: images, IOMode: Input, DataType: UInt8, Dimensions: [-1,8,8,3]
"""
TENSORRT_LISTING = """Layers:
Name: conv1 + relu, LayerType: CaskConvolution, Inputs: [ { Name: images, Location: Device, Dimensions: [1,3,8,8], \
Format/Datatype: Row major linear FP16 format }], Outputs: [ { Name: y, Format/Datatype: Half }], TacticName: sm89
Name: fc, LayerType: gemm, Inputs: [ { Name: x, Location: Device, Format/Datatype: BFloat16 }], Outputs: []

Bindings:
images
scores
"""


def test_layers_are_parsed_from_the_list_of_either_library() -> None:
    assert parse_layers(RTX_LISTING) == (
        Layer("shapes", "shape_call", ""),
        Layer("cast", "kgen", "uint8"),
        Layer("conv", "correlation", "int8"),
    )
    assert parse_layers(TENSORRT_LISTING) == (
        Layer("conv1 + relu", "CaskConvolution", "fp16"),
        Layer("fc", "gemm", "bf16"),
    )
    assert parse_layers("no layers") == ()
    assert precisions(parse_layers(RTX_LISTING)) == {"uint8": 1, "int8": 1}


def test_versions_compare_as_numbers() -> None:
    assert version_numbers("11.10.0.1") > version_numbers("11.4.0.106") > version_numbers("10.14.1.48.post1")
    assert version_numbers("unknown") == ()
