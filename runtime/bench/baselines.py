"""The ways from photos to scores that `--compare` runs beside mlzsl: those that are installed, and why others are not.

The others are written as one writes them without mlzsl: they decode with Pillow at full size and run with the library's
own settings. PyTorch is imported only where a checkpoint is named.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlzsl.cli.errors import UsageError
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
class Contender:
    """One way from photos to scores.

    Attributes:
        name: what it is.
        tag: image files -> their scores, all of the way; nothing is kept.
        scores: uint8 [n, S, S, 3] -> float32 [n, L], to see by how much it differs.
    """

    name: str
    tag: Callable[[Sequence[str]], None]
    scores: Callable[[Images], Scores]


@dataclass(frozen=True)
class Absent:
    """A way that does not run here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Race:
    """What the contenders run.

    Attributes:
        models: model files for mlzsl; the first is what the others are held against.
        checkpoint: that the first was exported from; None leaves PyTorch out.
        embeddings: where the training's embeddings are now; None for where they were.
        batch_size: photos a batch, for all.
        device: "cpu" or "cuda".
        backend, precision, threads: of mlzsl, as `open_engine` takes them. The precision is asked of fp32 files; the
            others run the one that they state. All contenders have as many threads.
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
        """Threads of every contender."""
        return self.threads or available_cpus()


def open_contenders(race: Race) -> tuple[list[Contender], list[Absent]]:
    """Open every way that runs here, the first model in mlzsl first.

    Raises:
        UsageError: the first model does not run, another is not there, or the checkpoint is not the first model's.
    """
    for model in race.models:
        if not model.is_file():
            raise UsageError(f"{model}: no model file is there; export one with mlzsl-export.")
    contenders = [_mlzsl(race, race.models[0])]
    absent = []
    if race.checkpoint is not None:
        if not race.checkpoint.is_file():
            raise UsageError(f"--checkpoint {race.checkpoint}: no file is there; name what mlzsl-train wrote.")
        check_checkpoint("--checkpoint", race.checkpoint, race.models[0], first_manifest(race))
    openers: list[tuple[str, Callable[[], Contender]]] = [
        *((f"mlzsl {model.name}", lambda model=model: _mlzsl(race, model)) for model in race.models[1:]),
        *((name, lambda name=name, opener=opener: opener(name, race)) for name, opener in OTHERS.items()),
    ]
    for name, opener in openers:
        try:
            contenders.append(opener())
        except UsageError as error:
            absent.append(Absent(name, str(error)))
    if not any(model.suffix.lower() == SUFFIX for model in race.models):
        absent.append(Absent("TensorRT", f"no {SUFFIX} was named; make one with `mlzsl-build {race.models[0]}`."))
    return contenders, absent


def first_manifest(race: Race) -> Manifest:
    """The manifest of the first model."""
    model = race.models[0]
    if model.suffix.lower() == ".onnx":
        return read_manifest(model)
    engine = open_engine(model, race.device)
    try:
        return engine.manifest
    finally:
        engine.close()


def _mlzsl(race: Race, model: Path) -> Contender:
    """The whole pipeline, tags and all."""
    stated = model.suffix.lower() != ".onnx" or read_manifest(model).precision != "fp32"
    tagger = Tagger.open(
        model,
        race.device,
        race.backend,
        None if stated else race.precision,
        batch_size=race.batch_size,
        threads=race.threads,
    )

    def tag(paths: Sequence[str]) -> None:
        for _ in tagger.tag(paths):
            pass

    execution = tagger.execution
    return Contender(f"mlzsl {model.name}, {execution.backend} {execution.precision}", tag, tagger.engine.scores)


def _fp32_file(race: Race) -> Path:
    for model in race.models:
        if model.suffix.lower() == ".onnx" and read_manifest(model).precision == "fp32":
            return model
    raise UsageError("no fp32 .onnx file was named; add the one that the others were made from.")


def _onnxruntime(name: str, race: Race) -> Contender:
    """The fp32 file in ONNX Runtime, one batch after the other."""
    model = _fp32_file(race)
    onnxruntime = _import("onnxruntime", "mlzsl[gpu]" if race.device == "cuda" else "mlzsl[cpu]")
    if PROVIDER[race.device] not in onnxruntime.get_available_providers():
        raise UsageError(f"the installed onnxruntime has no {PROVIDER[race.device]}; it needs the extra gpu.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = race.cores
    session = onnxruntime.InferenceSession(str(model), options, providers=[PROVIDER[race.device]])
    return _plain(name, race, model, lambda images: session.run(["scores"], {"images": images})[0])


def _openvino(name: str, race: Race) -> Contender:
    """The fp32 file in OpenVINO, one batch after the other, all cores on each."""
    if race.device != "cpu":
        raise UsageError("runs on the CPU, and --device cuda was asked for.")
    model = _fp32_file(race)
    core = shared_core(_import("openvino", "mlzsl[cpu]"))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(race.cores),
    }
    compiled = core.compile_model(str(model), "CPU", settings)
    return _plain(name, race, model, lambda images: np.array(compiled([images])[0]))


def _pytorch(name: str, opener: str, race: Race) -> Contender:
    if race.checkpoint is None:
        raise UsageError(f"no checkpoint was named; name the one of {race.models[0]} with --checkpoint.")
    baseline = _import("mlzsl.export.baseline", "mlzsl[train]")
    manifest = first_manifest(race)
    opened = getattr(baseline, opener)(
        race.checkpoint, manifest, race.embeddings, race.device, race.batch_size, race.cores
    )
    return Contender(name, opened.tag, opened.scores)


OTHERS: dict[str, Callable[[str, Race], Contender]] = {
    "PyTorch eager fp32, DataLoader": lambda name, race: _pytorch(name, "open_eager", race),
    "torch.compile bf16, DataLoader": lambda name, race: _pytorch(name, "open_compiled", race),
    "ONNX Runtime fp32, Pillow": _onnxruntime,
    "OpenVINO fp32, Pillow": _openvino,
}


def _plain(name: str, race: Race, model: Path, scores: Callable[[Images], Scores]) -> Contender:
    """A loop as one writes it: decode a batch with Pillow, run it."""
    size = read_manifest(model).image_size

    def tag(paths: Sequence[str]) -> None:
        for start in range(0, len(paths), race.batch_size):
            scores(np.stack([_decoded(path, size) for path in paths[start : start + race.batch_size]]))

    return Contender(name, tag, scores)


def _decoded(path: str, size: int) -> Images:
    """Every pixel decoded, then squashed: uint8 [S, S, 3]."""
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mlzsl"):
            raise
        raise UsageError(f"{error.name} is not installed; run `pip install '{extra}'`.") from error
