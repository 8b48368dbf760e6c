"""Build a TensorRT plan from a model file, with TensorRT 10.12 or later or with TensorRT-RTX.

The network is strongly typed: every layer computes in the type that the ONNX graph gives it. TensorRT builds on the GPU
that runs the plan; TensorRT-RTX needs no GPU and finishes the compilation where the plan is opened.
"""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import Progress, progress
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_model_file
from mlzsl.engines.artifact.plan_manifest import SUFFIX, BuildRecord, PlanManifest, write_plan
from mlzsl.engines.engine import check_signature, signature
from mlzsl.engines.tensorrt.cuda import Gpu, open_cuda
from mlzsl.engines.tensorrt.library import (
    Layer,
    Library,
    clean_message,
    inspect_plan,
    open_library,
    port,
    precisions,
    this_platform,
)
from mlzsl.engines.tensorrt.options import BuildOptions, apply_options, capability_members, check_options

DEFAULT_CACHE = Path("mlzsl-cache")


@dataclass(frozen=True)
class Build:
    """The result of a build.

    Attributes:
        path: the plan.
        manifest: as written beside it.
        ports: the network's inputs and outputs, "images uint8 [N, 224, 224, 3] → scores float32 [N, 80]".
        layers: of the plan, in execution order.
        plan_bytes: size of the plan.
        seconds: duration of the library's build.
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
    """Compile a model file, and write the plan `output` and its manifest `output.json`.

    Args:
        model: a `.onnx` file with a manifest.
        output: the `.plan` file to write; None for the model's name with this suffix.
        options: None for the defaults.
        quiet: show no progress.

    Raises:
        UsageError: the model file or an option is not valid, or the library, an option of it or the GPU is missing.
        FailureError: the library cannot build the network, or a file cannot be written.
    """
    options = options or BuildOptions()
    output = output or model.with_suffix(SUFFIX)
    if output.suffix.lower() != SUFFIX:
        raise UsageError(f"--output {output}: expected a name that ends in {SUFFIX}; use {output.with_suffix(SUFFIX)}.")
    manifest, golden = read_model_file(model)
    if manifest.quantized_for not in (None, "tensorrt"):
        raise UsageError(
            f"{model}: is quantized for {manifest.quantized_for}, expected for tensorrt; make such a file with "
            f"`mlzsl-calibrate --precision {manifest.precision} --for tensorrt` from the fp32 file."
        )
    library = open_library("tensorrt_rtx" if options.rtx else "tensorrt", "--rtx" if options.rtx else "mlzsl-build")
    check_options(library, options)
    gpu = None if options.rtx else open_cuda(f"{library} builds a plan on the GPU that runs it, and").gpu
    started = time.perf_counter()
    ports, plan = _compile(library, model, manifest, options, gpu, quiet)
    seconds = time.perf_counter() - started
    layers = inspect_plan(library, plan)
    written = write_plan(output, plan, manifest, _record(library, options, model, gpu, layers), golden)
    return Build(output, written, ports, layers, len(plan), seconds)


def _compile(
    library: Library, model: Path, manifest: Manifest, options: BuildOptions, gpu: Gpu | None, quiet: bool
) -> tuple[str, bytes]:
    """The network's signature, and the serialized plan."""
    try:
        builder = library.module.Builder(library.logger)
    except TypeError as error:  # raised by the bindings where the library returns a null pointer
        raise UsageError(f"{library} does not start: {library.messages.reason()}; check the driver.") from error
    network = _parse(library, builder, model)
    ports = _signature(network)
    check_signature(model, manifest, ports)
    config = builder.create_builder_config()
    apply_options(library, config, options)
    profile = builder.create_optimization_profile()
    batch, size = options.batch, manifest.image_size
    profile.set_shape("images", *((count, size, size, 3) for count in (batch.min, batch.opt, batch.max)))
    config.add_optimization_profile(profile)
    cache = TimingCache(library, config, options.timing_cache, gpu.name) if gpu else None
    with build_progress(library, config, quiet):
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _build_failure(library, model, options)
    if cache is not None:
        cache.save()
    return ports, bytes(plan)


def _parse(library: Library, builder: Any, model: Path) -> Any:
    """The library's network of a model file.

    Raises:
        FailureError: the library does not support an operator; the sentence names the node.
    """
    network = builder.create_network(1 << int(library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.module.OnnxParser(network, library.logger)
    if parser.parse(model.read_bytes()):
        return network
    found = parser.get_error(0) if parser.num_errors else None
    where = (
        f" node {found.node_name() or found.node()} ({found.node_operator()})" if found and found.node() >= 0 else ""
    )
    raise FailureError(
        f"{model}: {library} cannot read the network:{where} {_parser_reason(found)}; "
        "use the model file with ONNX Runtime (--device cuda), or change that part of the network."
    )


def _parser_reason(found: Any) -> str:
    """The parser's message of an error: the first line that does more than name the node."""
    lines = str(found.desc()).splitlines() if found else []
    relevant = [line for line in lines if line != "false" and not line.startswith("Invalid Node")]
    return clean_message(relevant[0]) if relevant else "has an operator that the library does not support"


def _build_failure(library: Library, model: Path, options: BuildOptions) -> Exception:
    reason = library.messages.reason()
    if "workspace" in reason:
        value = "" if options.workspace_mib is None else f" {options.workspace_mib}"
        return UsageError(f"--workspace{value}: too little for {model}: {reason}; raise it, or leave the flag out.")
    if options.strip_weights and options.rtx:
        return UsageError(
            f"--strip-weights: {library} supports it on machines with a GPU only ({reason}); leave it out, or build on "
            "such a machine."
        )
    remedy = "use the model file with ONNX Runtime (--device cuda)"
    if "SM" in reason:
        remedy = "build without this --compute-capability, or from a file of another precision"
    return FailureError(f"{model}: {library} cannot build the network: {reason}; {remedy}.")


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


@contextlib.contextmanager
def build_progress(library: Library, config: Any, quiet: bool) -> Iterator[None]:
    """Show the progress of a build within the block; Ctrl-C stops the build at its next step.

    Args:
        library: of the builder.
        config: the builder configuration, which gets a progress monitor.
        quiet: show no progress.

    Raises:
        KeyboardInterrupt: at the end of the block, after Ctrl-C.
    """
    interrupted = threading.Event()
    with progress("building", None, "steps", quiet) as bar, _interrupts(interrupted):
        config.progress_monitor = _monitor(library, bar, interrupted)
        yield
    if interrupted.is_set():
        raise KeyboardInterrupt


def _monitor(library: Library, bar: Progress, interrupted: threading.Event) -> Any:
    kind = library.module.IProgressMonitor
    phases = [""]  # nested, the innermost last

    def phase_start(self: Any, phase: str, parent: str | None, steps: int) -> None:
        phases.append(phase.lower())
        bar.advance(0, phases[-1])

    def step_complete(self: Any, phase: str, step: int) -> bool:
        bar.advance(1, phases[-1])
        return not interrupted.is_set()

    def phase_finish(self: Any, phase: str) -> None:
        phases.pop()

    methods = {
        "__init__": lambda self: kind.__init__(self),
        "phase_start": phase_start,
        "step_complete": step_complete,
        "phase_finish": phase_finish,
    }
    return type("Monitor", (kind,), methods)()


@contextlib.contextmanager
def _interrupts(interrupted: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set the event instead of raising within the library's call."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class TimingCache:
    """TensorRT's measured kernel times, a file for each GPU model and library version, which later builds reuse."""

    def __init__(self, library: Library, config: Any, folder: Path | None, gpu: str) -> None:
        """Load the cache of a GPU into a builder configuration, an empty one if the library refuses it."""
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{library.key}-{library.version}-{gpu}")
        self.path = (folder or DEFAULT_CACHE) / f"timing-{name}.cache"
        for content in (self.path.read_bytes() if self.path.is_file() else b"", b""):
            self._cache = config.create_timing_cache(content)
            if config.set_timing_cache(self._cache, False):  # False: refuses times of another GPU, CUDA or version
                break

    def save(self) -> None:
        """Write the cache with the times of this build.

        Raises:
            FailureError: the file cannot be written.
        """
        with written_atomically(self.path) as temporary:
            temporary.write_bytes(bytes(self._cache.serialize()))
