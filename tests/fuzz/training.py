"""What training reads: checkpoints, weights of backbones, training states, and cached features."""

import gzip
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzz.harness import FaultError, Parser, expect
from fuzz.mutations import mutate_bytes, mutate_safetensors
from safetensors.torch import save as save_safetensors
from smallgraph import small_batch, small_graph, small_model

from mlzsl.train.backbones.weights import read_weights
from mlzsl.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mlzsl.train.extraction.cache import load_cached, save_cached
from mlzsl.train.training.trainer import Trainer, TrainingConfig, TrainingData, train

DATA = Path(__file__).parents[1] / "compatibility" / "data"


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def checkpoints() -> list[bytes]:
    """Checkpoints of version 0.1, and the same in the present format."""
    old = [gzip.decompress((DATA / f"{name}.safetensors.gz").read_bytes()) for name in ("evidence", "rgcn_posvae")]
    with tempfile.TemporaryDirectory() as folder:
        path, made = Path(folder) / "old.safetensors", []
        for content in old:
            path.write_bytes(content)
            save_checkpoint(path.with_name("new.safetensors"), load_checkpoint(path))
            made.append(path.with_name("new.safetensors").read_bytes())
    return [*old, *made]


def check_checkpoint(content: bytes, checkpoint: Checkpoint) -> None:
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["mlzsl"])
    expect(list(checkpoint.labels.labels), header["labels"]["labels"], "labels")
    expect(list(checkpoint.seen), header["seen"], "seen labels")


CHECKPOINTS = Parser(
    "checkpoints",
    ".safetensors",
    "safetensors opens it and its entry is JSON",
    checkpoints,
    lambda random, content, others: mutate_safetensors(random, content, "mlzsl"),
    load_checkpoint,
    lambda content, result, error: (
        not (error and any(text in str(error) for text in ("is not a readable", "no checkpoint header", "is not JSON")))
    ),
    check_checkpoint,
)


# ---- weights of backbones --------------------------------------------------------------------------------------------

TENSORS = {"conv1.weight": torch.ones(4, 3, 3, 3), "bn1.running_mean": torch.zeros(4, dtype=torch.float16)}


def pth_files() -> list[bytes]:
    """A state dict as PyTorch writes it, and as it did before version 1.6."""
    made = []
    for new in (True, False):
        stream = io.BytesIO()
        torch.save(TENSORS, stream, _use_new_zipfile_serialization=new)
        made.append(stream.getvalue())
    return made


def mutate_pth(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change bytes, or those of a member of the zip archive."""
    if not content.startswith(b"PK") or random.random() < 0.2:
        return mutate_bytes(random, content, others, start=random.choice((0, 0, 60)))
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w") as target:
        members = {name: source.read(name) for name in source.namelist()}
        chosen = random.choice(["archive/data.pkl", *members])
        for name, data in members.items():
            if name != chosen:
                target.writestr(name, data)
            elif random.random() < 0.95:
                target.writestr(name, mutate_bytes(random, data))
    return stream.getvalue()


def check_weights(content: bytes, tensors: dict[str, torch.Tensor]) -> None:
    if not all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()):
        raise FaultError(f"weights {tensors}")


def weights(name: str, suffix: str, seeds: Any, mutate: Any) -> Parser:
    def past_header(content: bytes, result: Any, error: Exception | None) -> bool:
        return not (error and "is not a readable" in str(error))

    header = "safetensors or PyTorch opens it"
    return Parser(name, suffix, header, seeds, mutate, read_weights, past_header, check_weights)


WEIGHTS = (
    weights(
        "weights-safetensors",
        ".safetensors",
        lambda: [save_safetensors(TENSORS)],
        lambda random, content, others: mutate_safetensors(random, content),
    ),
    weights("weights-pth", ".pth", pth_files, mutate_pth),
)


# ---- training states -------------------------------------------------------------------------------------------------

CONFIG = TrainingConfig(epochs=3, batch_size=4)


def trainer() -> Trainer:
    features, logits = small_batch(8)
    graph = small_graph()
    probabilities = logits.softmax(1)[:, graph.external_logits]
    data = TrainingData(features, probabilities, torch.eye(8, graph.num_targets))
    return Trainer(small_model("RGCN"), graph, data, CONFIG)


def training_states() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        made, path = trainer(), Path(folder) / "state.safetensors"
        train(made.model, made.graph, made.data, TrainingConfig(epochs=2, batch_size=4), path, quiet=True)
        return [path.read_bytes()]


def check_state(content: bytes, history: list[dict[str, float]]) -> None:
    (length,) = struct.unpack_from("<Q", content)
    (text,) = json.loads(content[8 : 8 + length])["__metadata__"].values()
    expect(len(history), len(json.loads(text)["history"]), "epochs")


TRAINING_STATES = Parser(
    "training-states",
    ".safetensors",
    "safetensors opens it and its entry is JSON",
    training_states,
    lambda random, content, others: mutate_safetensors(random, content, "mlzsl training"),
    lambda path: trainer().load_state(path, quiet=True),
    lambda content, result, error: not (error and ("is not a readable" in str(error) or "is not JSON" in str(error))),
    check_state,
)


# ---- cached features -------------------------------------------------------------------------------------------------

KEY = "a key"
ARRAYS = {"features": np.arange(12, dtype=np.float32).reshape(3, 4), "kept": np.array([True, False, True])}


def caches() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save_cached(Path(folder) / "cache.safetensors", KEY, ARRAYS, {"photos": 3})
        return [(Path(folder) / "cache.safetensors").read_bytes()]


def check_cache(content: bytes, found: Any) -> None:
    """What is read is what was written; a damaged file is as good as none."""
    if found != "damaged" and not all(np.array_equal(found[0].get(name), array) for name, array in ARRAYS.items()):
        raise FaultError(f"cached arrays {found}")


def has_key(content: bytes, result: Any, error: Exception | None) -> bool:
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        return json.loads(header["__metadata__"]["mlzsl cache"])["key"] == KEY
    except (ValueError, LookupError, TypeError, RecursionError, struct.error):
        return False


CACHES = Parser(
    "caches",
    ".safetensors",
    "its header is JSON, and so is its entry, with the key",
    caches,
    lambda random, content, others: mutate_safetensors(random, content, "mlzsl cache"),
    lambda path: load_cached(path, KEY) or "damaged",
    has_key,
    check_cache,
)
