"""What can be asked of a builder, and what the installed library lacks: an option is carried out or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.plan_manifest import DEFAULT_LEVEL, HARDWARE, BatchProfile, Hardware
from mlzsl.engines.tensorrt.library import Library, plain

DEFAULT_BATCH = BatchProfile(1, 8, 32)
LARGEST_BATCH = 65_536
LEVELS = range(6)
HARDWARE_LEVEL = {"same-gpu": "NONE", "same-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}


@dataclass(frozen=True)
class BuildOptions:
    """What to build; the defaults give a plan for the GPU at hand.

    Attributes:
        rtx: build with TensorRT-RTX, without a GPU, for GPUs of the RTX class.
        batch: batch sizes that the plan takes.
        optimization_level: 0 to 5; a higher one builds longer and may run faster.
        workspace_mib: most scratch memory in MiB a layer may take; None for the library's default.
        compute_capabilities: TensorRT-RTX only: the GPUs to build for, such as "8.9"; empty for all it knows.
        version_compatible: TensorRT only: later versions of the library may load the plan too.
        hardware: TensorRT only: one of `plan_manifest.HARDWARE`, the GPUs that may run the plan.
        strip_weights: leave the weights out of the plan; they are read from the model file when it is opened.
        timing_cache: TensorRT only: folder in which measured kernel times are kept; None for `mlzsl-cache`.
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
    """Check that options make sense and that a library has what they ask for.

    Raises:
        UsageError: they do not, or it has not; the sentence names the flag.
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
        raise UsageError(f"--workspace {options.workspace_mib}: expected MiB, at least 1; leave it out for no limit.")
    if options.hardware not in HARDWARE:
        raise UsageError(f"--hardware {options.hardware}: unknown; there are {', '.join(HARDWARE)}.")
    if library.key == "tensorrt_rtx":
        _refuse_what_rtx_lacks(library, options)
    elif options.compute_capabilities:
        raise UsageError(
            f"--compute-capability: {library} builds for the GPU that it runs on; add --rtx to name others, "
            "or allow more GPUs with --hardware."
        )


def capability_members(library: Library, asked: tuple[str, ...]) -> dict[str, Any]:
    """The library's enumeration members for compute capabilities, by canonical name ("8.9"), each once.

    Args:
        library: TensorRT-RTX.
        asked: as typed: "8.9", "89" or "sm89".

    Raises:
        UsageError: the library knows no such GPU.
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
    """Set a builder configuration to what is asked for.

    Raises:
        UsageError: the library refuses a setting, or says that it has no such.
    """
    module = library.module
    flags = module.BuilderFlag
    config.clear_flag(flags.TF32)  # it keeps 10 bits of a float32's 23, and is not what an fp32 file means
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # for whoever inspects the plan

    if options.optimization_level != DEFAULT_LEVEL:
        _set(
            library,
            "--optimization-level",
            lambda: setattr(config, "builder_optimization_level", options.optimization_level),
        )
    if options.workspace_mib is not None:
        limit, pool = options.workspace_mib << 20, module.MemoryPoolType.WORKSPACE
        _set(library, "--workspace", lambda: config.set_memory_pool_limit(pool, limit))
    if options.version_compatible:
        _set(library, "--version-compatible", lambda: config.set_flag(flags.VERSION_COMPATIBLE))
    if options.hardware != HARDWARE[0]:
        level = HARDWARE_LEVEL[options.hardware]
        _set(library, f"--hardware {options.hardware}", lambda: _set_hardware(library, config, level))
    if options.strip_weights:
        _set(library, "--strip-weights", lambda: config.set_flag(flags.STRIP_PLAN))
    if options.compute_capabilities:
        members = capability_members(library, options.compute_capabilities).values()
        config.num_compute_capabilities = len(members)
        for place, member in enumerate(members):
            _set(library, "--compute-capability", partial(config.set_compute_capability, member, place))


def _set_hardware(library: Library, config: Any, level: str) -> None:
    config.hardware_compatibility_level = getattr(library.module.HardwareCompatibilityLevel, level)


def _set(library: Library, flag: str, setting: Callable[[], object]) -> None:
    """Carry out one setting; the libraries answer what they do not take with a log entry, not an exception."""
    errors, warnings = len(library.messages.errors), len(library.messages.warnings)
    try:
        done = setting()
    except (AttributeError, TypeError) as error:
        raise UsageError(f"{flag}: {library} has no such option; leave it out.") from error
    told = library.messages.errors[errors:]
    told += [warning for warning in library.messages.warnings[warnings:] if "unsupported" in warning]
    if told or done is False:
        raise UsageError(f"{flag}: {library} refuses: {plain(told[0]) if told else 'it gives no reason'}.")


def _refuse_what_rtx_lacks(library: Library, options: BuildOptions) -> None:
    capability_members(library, options.compute_capabilities)
    lacks = {
        "--version-compatible": (options.version_compatible, "its plans run on the version that built them only"),
        f"--hardware {options.hardware}": (options.hardware != HARDWARE[0], "name GPUs with --compute-capability"),
        "--timing-cache": (options.timing_cache is not None, "it measures nothing while it builds"),
    }
    for flag, (asked, instead) in lacks.items():
        if asked:
            raise UsageError(f"{flag}: {library} has no such option ({instead}); leave it out, or build without --rtx.")
