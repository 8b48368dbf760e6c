"""A build record, which tests of plans vary."""

from mlzsl.engines.artifact.plan_manifest import BatchProfile, BuildRecord

RECORD = BuildRecord(
    library="tensorrt",
    version="11.4.0.106",
    model_file="model.onnx",
    batch=BatchProfile(1, 8, 32),
    compute_capabilities=("8.9",),
    gpu="NVIDIA L4",
    platform="linux x86_64",
    optimization_level=3,
    workspace_mib=None,
    version_compatible=False,
    hardware="same-gpu",
    weights_stripped=False,
    layers=3,
    precisions={"fp32": 3},
)
