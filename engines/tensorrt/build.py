"""A model file compiled into a plan: one path for TensorRT 10.12 and later, TensorRT 11 and TensorRT-RTX.

Precision is the file's own: the network is strongly typed, so every layer computes in the type that the ONNX graph
gives it. TensorRT builds on the GPU that is to run the plan; TensorRT-RTX needs no GPU and leaves the last step of
compilation to the machine that opens the plan.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_model_file
from mlzsl.engines.artifact.plan_manifest import SUFFIX, BuildRecord, PlanManifest, write_plan
from mlzsl.engines.engine import check_signature, signature
from mlzsl.engines.tensorrt.cuda import Gpu, find_gpu
from mlzsl.engines.tensorrt.inspection import Layer, inspect_plan, precisions
from mlzsl.engines.tensorrt.library import Library, open_library, plain, port, this_platform
from mlzsl.engines.tensorrt.options import BuildOptions, apply_options, capability_members, check_options
from mlzsl.engines.tensorrt.progress import watched
from mlzsl.engines.tensorrt.timing_cache import TimingCache


@dataclass(frozen=True)
class Build:
    """What a build made.

    Attributes:
        path: the plan.
        manifest: what was written beside it.
        ports: the network's inputs and outputs, "images uint8 [N, 224, 224, 3] → scores float32 [N, 80]".
        layers: what the library made of the network, in the order in which they run.
        plan_bytes: size of the plan.
        seconds: that the library took.
    """

    path: Path
    manifest: PlanManifest
    ports: str
    layers: tuple[Layer, ...]
    plan_bytes: int
    seconds: float


def build_plan(
    model: Path, output: Path | None = None, options: BuildOptions | None = None, quiet: bool = False
) -> Build:
    """Compile a model file and write the plan and its manifest, `output` and `output.json`.

    Args:
        model: a `.onnx` file with a manifest.
        output: the `.plan` file to write; None for the model's name with that suffix.
        options: None for the defaults.
        quiet: show no progress.

    Raises:
        UsageError: the model file is unfit, an option is wrong or not to be had from the installed library, or there
            is no GPU where one is needed.
        FailureError: the library cannot build the network, or the file system refuses.
    """
    options = options or BuildOptions()
    output = output or model.with_suffix(SUFFIX)
    if output.suffix.lower() != SUFFIX:
        raise UsageError(f"--output {output}: a plan's name ends in {SUFFIX}; call it {output.with_suffix(SUFFIX)}.")
    manifest, golden = read_model_file(model)
    if manifest.quantized_for not in (None, "tensorrt"):
        raise UsageError(
            f"{model}: is quantized for {manifest.quantized_for}, in a way that TensorRT does not take; make one for "
            f"it with `mlzsl-calibrate --precision {manifest.precision} --for tensorrt` from the fp32 file."
        )
    library = open_library("tensorrt_rtx" if options.rtx else "tensorrt", "--rtx" if options.rtx else "mlzsl-build")
    check_options(library, options)
    gpu = None if options.rtx else find_gpu(f"{library} builds a plan on the GPU that is to run it, and")
    started = time.perf_counter()
    ports, plan = _compile(library, model, manifest, options, gpu, quiet)
    seconds = time.perf_counter() - started
    layers = inspect_plan(library, plan)
    record = _record(library, options, model, gpu, layers)
    return Build(output, write_plan(output, plan, manifest, record, golden), ports, layers, len(plan), seconds)


def _compile(
    library: Library, model: Path, manifest: Manifest, options: BuildOptions, gpu: Gpu | None, quiet: bool
) -> tuple[str, bytes]:
    """The network's ports in words, and the serialized plan."""
    try:
        builder = library.module.Builder(library.logger)
    except TypeError as error:  # how the bindings say that the library gave them nothing
        raise UsageError(f"{library} does not start: {library.messages.reason()}.") from error
    network = _parse(library, builder, model)
    ports = _signature(network)
    check_signature(model, manifest, ports)
    config = builder.create_builder_config()
    apply_options(library, config, options)
    config.add_optimization_profile(_profile(builder, manifest.image_size, options))
    times = TimingCache(library, config, options.timing_cache, gpu.name) if gpu else None
    with watched(library, config, quiet):
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _build_failure(library, model, options)
    if times is not None:
        times.keep()
    return ports, bytes(plan)


def _parse(library: Library, builder: Any, model: Path) -> Any:
    """The network of a model file.

    Raises:
        FailureError: the library does not know an operator or a form of it; the sentence names the node.
    """
    flag = library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = library.module.OnnxParser(network, library.logger)
    if parser.parse(model.read_bytes()):
        return network
    found = parser.get_error(0) if parser.num_errors else None
    where = (
        f" node {found.node_name() or found.node()} ({found.node_operator()})" if found and found.node() >= 0 else ""
    )
    raise FailureError(
        f"{model}: {library} cannot read the network:{where} {_parser_reason(found)}; "
        "run the model file itself with ONNX Runtime (--device cuda), or change that part of the network."
    )


def _parser_reason(found: Any) -> str:
    """What the parser says of an error: of several lines the first that says more than which node it is."""
    lines = str(found.desc()).splitlines() if found else []
    telling = [line for line in lines if line != "false" and not line.startswith("Invalid Node")]
    return plain(telling[0]) if telling else "has an operator, or a form of it, that the library does not know"


def _profile(builder: Any, size: int, options: BuildOptions) -> Any:
    batch = options.batch
    profile = builder.create_optimization_profile()
    profile.set_shape("images", *((count, size, size, 3) for count in (batch.min, batch.opt, batch.max)))
    return profile


def _build_failure(library: Library, model: Path, options: BuildOptions) -> Exception:
    reason = library.messages.reason()
    if "workspace" in reason:
        given = "" if options.workspace_mib is None else f" {options.workspace_mib}"
        return UsageError(f"--workspace{given}: too little for {model}: {reason}; give more, or leave the flag out.")
    if options.strip_weights and options.rtx:
        return UsageError(
            f"--strip-weights: {library} makes such plans only where there is a GPU and its driver ({reason}); "
            "leave it out, or build on a machine with a GPU."
        )
    remedy = "; build without this --compute-capability, or from a file of another precision" if "SM" in reason else ""
    return FailureError(f"{model}: {library} cannot build the network: {reason}{remedy}.")


def _record(
    library: Library, options: BuildOptions, model: Path, gpu: Gpu | None, layers: tuple[Layer, ...]
) -> BuildRecord:
    asked = capability_members(library, options.compute_capabilities) if options.rtx else {}
    return BuildRecord(
        library=library.key,
        version=library.version,
        model_file=model.name,
        batch=options.batch,
        compute_capabilities=(gpu.compute_capability,) if gpu else tuple(asked),
        gpu=gpu.name if gpu else None,
        platform=this_platform(),
        optimization_level=options.optimization_level,
        workspace_mib=options.workspace_mib,
        version_compatible=options.version_compatible,
        hardware=options.hardware,
        weights_stripped=options.strip_weights,
        layers=len(layers),
        precisions=precisions(layers),
    )


def _signature(network: Any) -> str:
    inputs, outputs = (
        [port(tensor.name, tensor.dtype, tensor.shape) for tensor in map(get, range(count))]
        for get, count in ((network.get_input, network.num_inputs), (network.get_output, network.num_outputs))
    )
    return signature(inputs, outputs)
