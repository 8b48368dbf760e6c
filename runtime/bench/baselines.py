"""The ways from photos to scores that `mlzsl bench compare` runs: mlzsl, and baselines written without it.

The baselines decode with Pillow at full size and use the library's default settings. PyTorch is imported only if a
checkpoint is named.
"""

import contextlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mlzsl.cli.errors import UsageError
from mlzsl.cli.optional import import_optional
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores, read_manifest
from mlzsl.engines.artifact.plan_manifest import SUFFIX
from mlzsl.engines.engine import available_cpus
from mlzsl.engines.opening import open_engine
from mlzsl.engines.openvino import shared_core
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.verify.reference import check_checkpoint

PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Baseline:
    """One way from photos to scores.

    Attributes:
        name: for the report.
        tag: scores image files, from reading them on; keeps nothing.
        scores: uint8 [n, S, S, 3] -> float32 [n, L].
    """

    name: str
    tag: Callable[[Sequence[str]], None]
    scores: Callable[[Images], Scores]


@dataclass(frozen=True)
class Skipped:
    """A baseline that does not run here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What the baselines run, and on what.

    Attributes:
        models: model files for mlzsl; everything else is compared with the first.
        checkpoint: that the first was exported from; None leaves PyTorch out.
        embeddings: where the training's embeddings are now; None for where they were.
        batch_size: photos per batch, for all.
        device: "cpu" or "cuda".
        backend, precision, threads: of mlzsl, as `open_engine` takes them. `precision` applies to fp32 files; the
            others run the precision that they state. All baselines use the same number of threads.
    """

    models: tuple[Path, ...]
    checkpoint: Path | None
    embeddings: str | None
    batch_size: int
    device: str = "cpu"
    backend: str | None = None
    precision: str | None = None
    threads: int | None = None

    @property
    def cores(self) -> int:
        """Threads of every baseline."""
        return self.threads or available_cpus()

    def check_files(self) -> None:
        """Refuse, before photos are decoded, files that cannot be compared.

        Raises:
            UsageError: a model or the checkpoint is missing, or the checkpoint is not the first model's.
        """
        for model in self.models:
            if not model.is_file():
                raise UsageError(f"{model}: no such model file; export one with mlzsl-export.")
        if self.checkpoint is not None:
            if not self.checkpoint.is_file():
                raise UsageError(f"--checkpoint {self.checkpoint}: no such file; name a checkpoint of mlzsl-train.")
            check_checkpoint("--checkpoint", self.checkpoint, self.models[0], first_manifest(self))


def open_baselines(comparison: Comparison) -> tuple[list[Baseline], list[Skipped]]:
    """Open every baseline that runs here, the first model in mlzsl first.

    Raises:
        UsageError: the first model does not run, or as `Comparison.check_files`.
    """
    comparison.check_files()
    baselines, skipped = [_mlzsl(comparison, comparison.models[0])], []
    openers: list[tuple[str, Callable[[], Baseline]]] = [
        *((f"mlzsl {model.name}", lambda model=model: _mlzsl(comparison, model)) for model in comparison.models[1:]),
        *((name, lambda name=name, opener=opener: opener(name, comparison)) for name, opener in OTHERS.items()),
    ]
    for name, opener in openers:
        try:
            baselines.append(opener())
        except UsageError as error:
            skipped.append(Skipped(name, str(error)))
    if not any(model.suffix.lower() == SUFFIX for model in comparison.models):
        reason = f"no {SUFFIX} is named; make one with `mlzsl-build {comparison.models[0]}`."
        skipped.append(Skipped("TensorRT", reason))
    return baselines, skipped


def first_manifest(comparison: Comparison) -> Manifest:
    """The manifest of the first model."""
    model = comparison.models[0]
    if model.suffix.lower() == ".onnx":
        return read_manifest(model)
    with contextlib.closing(open_engine(model, comparison.device)) as engine:
        return engine.manifest


def _mlzsl(comparison: Comparison, model: Path) -> Baseline:
    """The whole pipeline, tags included."""
    stated = model.suffix.lower() != ".onnx" or read_manifest(model).precision != "fp32"
    tagger = Tagger.open(
        model,
        comparison.device,
        comparison.backend,
        None if stated else comparison.precision,
        batch_size=comparison.batch_size,
        threads=comparison.threads,
    )

    def tag(paths: Sequence[str]) -> None:
        for _ in tagger.tag(paths):
            pass

    execution = tagger.execution
    return Baseline(f"mlzsl {model.name}, {execution.backend} {execution.precision}", tag, tagger.engine.scores)


def _fp32_file(comparison: Comparison) -> Path:
    for model in comparison.models:
        if model.suffix.lower() == ".onnx" and read_manifest(model).precision == "fp32":
            return model
    raise UsageError("no fp32 .onnx file is named; add the one that the others were made from.")


def _onnxruntime(name: str, comparison: Comparison) -> Baseline:
    """The fp32 file in ONNX Runtime, one batch at a time."""
    model = _fp32_file(comparison)
    extra = "gpu" if comparison.device == "cuda" else "cpu"
    onnxruntime = import_optional("onnxruntime", f"onnxruntime is not installed; run `pip install 'mlzsl[{extra}]'`.")
    if PROVIDER[comparison.device] not in onnxruntime.get_available_providers():
        raise UsageError(f"the installed onnxruntime has no {PROVIDER[comparison.device]}; install the extra gpu.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = comparison.cores
    session = onnxruntime.InferenceSession(str(model), options, providers=[PROVIDER[comparison.device]])
    return _plain(name, comparison, model, lambda images: session.run(["scores"], {"images": images})[0])


def _openvino(name: str, comparison: Comparison) -> Baseline:
    """The fp32 file in OpenVINO, one batch at a time, all cores on each."""
    if comparison.device != "cpu":
        raise UsageError("runs on the CPU only, found --device cuda.")
    model = _fp32_file(comparison)
    core = shared_core(import_optional("openvino", "openvino is not installed; run `pip install 'mlzsl[cpu]'`."))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(comparison.cores),
    }
    compiled = core.compile_model(str(model), "CPU", settings)
    return _plain(name, comparison, model, lambda images: np.array(compiled([images])[0]))


def _pytorch(name: str, opener: str, comparison: Comparison) -> Baseline:
    if comparison.checkpoint is None:
        raise UsageError(f"no checkpoint is named; name that of {comparison.models[0]} with --checkpoint.")
    import_optional("torch", "torch is not installed; run `pip install 'mlzsl[train]'`.")
    baseline = importlib.import_module("mlzsl.export.baseline")
    manifest = first_manifest(comparison)
    opened = getattr(baseline, opener)(
        comparison.checkpoint,
        manifest,
        comparison.embeddings,
        comparison.device,
        comparison.batch_size,
        comparison.cores,
    )
    return Baseline(name, opened.tag, opened.scores)


OTHERS: dict[str, Callable[[str, Comparison], Baseline]] = {
    "PyTorch eager fp32, DataLoader": lambda name, comparison: _pytorch(name, "open_eager", comparison),
    "torch.compile bf16, DataLoader": lambda name, comparison: _pytorch(name, "open_compiled", comparison),
    "ONNX Runtime fp32, Pillow": _onnxruntime,
    "OpenVINO fp32, Pillow": _openvino,
}


def _plain(name: str, comparison: Comparison, model: Path, scores: Callable[[Images], Scores]) -> Baseline:
    """A plain loop: decode a batch with Pillow, run it."""
    size = read_manifest(model).image_size

    def tag(paths: Sequence[str]) -> None:
        for start in range(0, len(paths), comparison.batch_size):
            scores(np.stack([_decoded(path, size) for path in paths[start : start + comparison.batch_size]]))

    return Baseline(name, tag, scores)


def _decoded(path: str, size: int) -> Images:
    """A photo decoded at full size, then squashed: uint8 [S, S, 3]."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
