"""The options of a build: checked, and applied to the library's builder configuration or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.plan_manifest import DEFAULT_LEVEL, HARDWARE, BatchProfile, Hardware
from mlzsl.engines.tensorrt.library import Library, clean_message

DEFAULT_BATCH = BatchProfile(1, 8, 32)
LARGEST_BATCH = 65_536
LEVELS = range(6)
HARDWARE_LEVEL = {"same-gpu": "NONE", "same-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}


@dataclass(frozen=True)
class BuildOptions:
    """How to build; by default for the GPU of this machine.

    Attributes:
        rtx: build with TensorRT-RTX, without a GPU, for GPUs of the RTX class.
        batch: batch sizes that the plan takes.
        optimization_level: 0 to 5; a higher one builds longer and may run faster.
        workspace_mib: limit of a layer's workspace in MiB; None for the library's default.
        compute_capabilities: TensorRT-RTX only: the GPUs to build for, such as "8.9"; empty for all it supports.
        version_compatible: TensorRT only: later versions of the library may load the plan too.
        hardware: TensorRT only: one of `plan_manifest.HARDWARE`, the GPUs that may run the plan.
        strip_weights: leave the weights out of the plan; opening it reads them from the model file.
        timing_cache: TensorRT only: folder of the timing caches; None for `mlzsl-cache`.
    """

    rtx: bool = False
    batch: BatchProfile = DEFAULT_BATCH
    optimization_level: int = DEFAULT_LEVEL
    workspace_mib: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware: Hardware = "same-gpu"
    strip_weights: bool = False
    timing_cache: Path | None = None


def check_options(library: Library, options: BuildOptions) -> None:
    """Check that options are valid and that a library has them.

    Raises:
        UsageError: the sentence names the flag.
    """
    batch = options.batch
    if not 1 <= batch.min <= batch.opt <= batch.max <= LARGEST_BATCH:
        raise UsageError(
            f"--batch {batch}: expected MIN,OPT,MAX, such as {DEFAULT_BATCH}, "
            f"with 1 ≤ MIN ≤ OPT ≤ MAX ≤ {LARGEST_BATCH}."
        )
    if options.optimization_level not in LEVELS:
        raise UsageError(f"--optimization-level {options.optimization_level}: expected 0 to {LEVELS[-1]}.")
    if options.workspace_mib is not None and options.workspace_mib < 1:
        raise UsageError(f"--workspace {options.workspace_mib}: expected at least 1 MiB; leave it out for the default.")
    if options.hardware not in HARDWARE:
        raise UsageError(f"--hardware {options.hardware}: unknown, expected one of {', '.join(HARDWARE)}.")
    if library.key == "tensorrt_rtx":
        _check_rtx_options(library, options)
    elif options.compute_capabilities:
        raise UsageError(
            f"--compute-capability: {library} builds for the GPU of this machine; add --rtx to name others, or "
            "allow more GPUs with --hardware."
        )


def capability_members(library: Library, asked: tuple[str, ...]) -> dict[str, Any]:
    """The library's enumeration members for compute capabilities, by canonical name ("8.9"), each once.

    Args:
        library: TensorRT-RTX.
        asked: as typed: "8.9", "89" or "sm89".

    Raises:
        UsageError: the library does not support such a GPU.
    """
    kinds = library.module.ComputeCapability.__members__
    known = {name: f"{name[2:-1]}.{name[-1]}" for name in kinds if name.startswith("SM")}
    members = {}
    for typed in asked:
        name = "SM" + typed.upper().removeprefix("SM_").removeprefix("SM").replace(".", "")
        if name not in known:
            raise UsageError(f"--compute-capability {typed}: {library} builds for {', '.join(known.values())}.")
        members[known[name]] = kinds[name]
    return members


def apply_options(library: Library, config: Any, options: BuildOptions) -> None:
    """Apply options to a builder configuration.

    Raises:
        UsageError: the library refuses an option, or does not have it.
    """
    module = library.module
    flags = module.BuilderFlag
    config.clear_flag(flags.TF32)  # rounds a float32's 23 bits to 10, which an fp32 file does not mean
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # names the layers of the plan for inspection

    def set_hardware(hardware: str) -> None:
        config.hardware_compatibility_level = getattr(module.HardwareCompatibilityLevel, HARDWARE_LEVEL[hardware])

    def set_capabilities(asked: tuple[str, ...]) -> bool:
        members = capability_members(library, asked).values()
        config.num_compute_capabilities = len(members)
        return all(config.set_compute_capability(member, index) is not False for index, member in enumerate(members))

    setters: list[tuple[str, Any, object, Callable[[Any], object]]] = [  # flag, value, default, setter
        (
            "--optimization-level",
            options.optimization_level,
            DEFAULT_LEVEL,
            lambda level: setattr(config, "builder_optimization_level", level),
        ),
        (
            "--workspace",
            options.workspace_mib,
            None,
            lambda mib: config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, mib << 20),
        ),
        (
            "--version-compatible",
            options.version_compatible,
            False,
            lambda _: config.set_flag(flags.VERSION_COMPATIBLE),
        ),
        (f"--hardware {options.hardware}", options.hardware, HARDWARE[0], set_hardware),
        ("--strip-weights", options.strip_weights, False, lambda _: config.set_flag(flags.STRIP_PLAN)),
        ("--compute-capability", options.compute_capabilities, (), set_capabilities),
    ]
    for flag, value, default, setter in setters:
        if value != default:
            _set(library, flag, value, setter)


def _set(library: Library, flag: str, value: Any, setter: Callable[[Any], object]) -> None:
    """Apply one option; the libraries refuse an option by a log message, not by an exception."""
    errors, warnings = len(library.messages.errors), len(library.messages.warnings)
    try:
        done = setter(value)
    except (AttributeError, TypeError) as error:
        raise UsageError(f"{flag}: {library} has no such option; leave it out.") from error
    reasons = library.messages.errors[errors:]
    reasons += [warning for warning in library.messages.warnings[warnings:] if "unsupported" in warning]
    if reasons or done is False:
        reason = clean_message(reasons[0]) if reasons else "it gives no reason"
        raise UsageError(f"{flag}: {library} refuses it ({reason}); leave it out.")


def _check_rtx_options(library: Library, options: BuildOptions) -> None:
    capability_members(library, options.compute_capabilities)
    unsupported = {
        "--version-compatible": (options.version_compatible, "its plans run on the version that built them only"),
        f"--hardware {options.hardware}": (options.hardware != HARDWARE[0], "name GPUs with --compute-capability"),
        "--timing-cache": (options.timing_cache is not None, "it does not time kernels during the build"),
    }
    for flag, (asked, reason) in unsupported.items():
        if asked:
            raise UsageError(f"{flag}: {library} has no such option ({reason}); leave it out, or build without --rtx.")
