"""Text encoders: phrases to unit vectors, the normalized mean of the last hidden states of a BERT network.

The network is that of Devlin et al., "BERT", 2019; all-MiniLM-L6-v2 is one of 6 layers and width 384. It is computed in
NumPy from `model.safetensors`, or by ONNX Runtime from an ONNX file. Phrases of the same number of tokens are encoded
together, so nothing is padded and no phrase depends on another.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.inputs import read_bytes
from mlzsl.cli.json_decoding import Finite, read_json
from mlzsl.cli.optional import import_optional
from mlzsl.cli.outputs import sha256_of_bytes, sha256_of_file

WEIGHTS, TOKENIZER, CONFIG, POOLING = "model.safetensors", "tokenizer.json", "config.json", "1_Pooling/config.json"
ONNX_FILES = ("onnx/model.onnx", "model.onnx")
REMEDY = "name a folder in the layout of the Hugging Face hub: tokenizer.json, config.json and model.safetensors"
MAX_JSON, MAX_TOKENIZER, MAX_WEIGHTS = 2**20, 64 * 2**20, 4 * 2**30  # bytes
MAX_TOKENS = 256  # of a phrase; what exceeds them is cut off, as in the training of all-MiniLM-L6-v2
TOKENS_PER_BATCH = 2048  # the hidden states of a batch stay in the processor's cache

Floats = NDArray[np.float32]
Size = Annotated[int, Meta(ge=1, le=2**20, description="a whole number from 1 up")]


class BertConfig(Struct):
    """The settings of a BERT network, named as in the hub's config.json."""

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"]
    hidden_size: Size
    intermediate_size: Size
    max_position_embeddings: Size
    num_attention_heads: Size
    num_hidden_layers: Size
    type_vocab_size: Size
    vocab_size: Size
    layer_norm_eps: Finite

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")


class _PoolingConfig(Struct):
    """What is read of `1_Pooling/config.json`, in which sentence-transformers says how hidden states are pooled."""

    pooling_mode_mean_tokens: Literal[True]


@dataclass(frozen=True)
class TextEncoder:
    """Phrases to unit vectors.

    Attributes:
        tokenize: phrases -> the ids of their tokens.
        hidden_states: ids [n, t] -> the last hidden states [n, t, d].
        dimension: d.
        weights_sha256: the hash of the file of weights.
        sha256: of all that vectors depend on.
    """

    tokenize: Callable[[Sequence[str]], list[list[int]]]
    hidden_states: Callable[[NDArray[np.int64]], Floats]
    dimension: int
    weights_sha256: str
    sha256: str

    def __call__(self, phrases: Sequence[str]) -> Floats:
        """The vector of each phrase, float32 [n, d]."""
        tokens = self.tokenize(phrases)
        rows_of_length: dict[int, list[int]] = {}
        for row, ids in enumerate(tokens):
            rows_of_length.setdefault(len(ids), []).append(row)
        vectors = np.empty((len(tokens), self.dimension), np.float32)
        for length, rows in rows_of_length.items():
            size = max(1, TOKENS_PER_BATCH // length)
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                vectors[batch] = self.hidden_states(np.array([tokens[row] for row in batch])).mean(axis=1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def open_text_encoder(folder: Path) -> TextEncoder:
    """Open the text encoder in a folder: the hub's layout, with `model.safetensors` or an ONNX file.

    Raises:
        UsageError: a file is missing, damaged or too large, the network is no BERT encoder with mean pooling, or
            `tokenizers` (the extra `text`), or for an ONNX file ONNX Runtime, is not installed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; {REMEDY}.")
    if (folder / POOLING).is_file():
        read_json(folder / POOLING, _PoolingConfig, "only the mean of hidden states is supported", MAX_JSON)
    onnx_file = next((folder / name for name in ONNX_FILES if (folder / name).is_file()), None)
    if onnx_file and not (folder / WEIGHTS).is_file():
        tokenize, tokenizer_sha256, _ = _open_tokenizer(folder / TOKENIZER, MAX_TOKENS)
        weights_sha256 = sha256_of_file(onnx_file)
        hidden_states = _open_onnx(onnx_file)
        dimension = hidden_states(np.array(tokenize([""]))).shape[-1]
        sha256 = sha256_of_bytes(weights_sha256.encode(), tokenizer_sha256.encode())
        return TextEncoder(tokenize, hidden_states, dimension, weights_sha256, sha256)
    config = read_json(folder / CONFIG, BertConfig, REMEDY, MAX_JSON)
    longest = min(MAX_TOKENS, config.max_position_embeddings)
    tokenize, tokenizer_sha256, vocabulary = _open_tokenizer(folder / TOKENIZER, longest)
    if vocabulary > config.vocab_size:
        raise UsageError(
            f"{folder / TOKENIZER}: has {vocabulary:,} tokens, but {CONFIG} says {config.vocab_size:,}; "
            "copy both files from the same model."
        )
    bert = Bert(config, _read_tensors(folder / WEIGHTS, config))
    weights_sha256 = sha256_of_file(folder / WEIGHTS)
    sha256 = sha256_of_bytes(weights_sha256.encode(), tokenizer_sha256.encode(), msgspec.json.encode(config))
    return TextEncoder(tokenize, bert, config.hidden_size, weights_sha256, sha256)


@dataclass(frozen=True)
class Bert:
    """The network, its tensors named as in the hub's files."""

    config: BertConfig
    tensors: Mapping[str, Floats]

    def __call__(self, ids: NDArray[np.int64]) -> Floats:
        """Token ids [n, t] -> the last hidden states [n, t, d]."""
        tables = (self.tensors[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
        words, positions, types = tables
        x = self._norm("embeddings.LayerNorm", words[ids] + positions[: ids.shape[1]] + types[0])  # (n, t, d)
        for number in range(self.config.num_hidden_layers):
            layer = f"encoder.layer.{number}"
            attended = self._linear(f"{layer}.attention.output.dense", self._attention(f"{layer}.attention.self", x))
            x = self._norm(f"{layer}.attention.output.LayerNorm", x + attended)
            wide = gelu(self._linear(f"{layer}.intermediate.dense", x))  # (n, t, 4 d)
            x = self._norm(f"{layer}.output.LayerNorm", x + self._linear(f"{layer}.output.dense", wide))
        return x

    def _attention(self, name: str, x: Floats) -> Floats:
        """softmax(Q Kᵀ / √(d / heads)) V of each head, [n, t, d]."""
        n, t, d = x.shape
        heads = self.config.num_attention_heads
        q, k, v = (
            self._linear(f"{name}.{part}", x).reshape(n, t, heads, d // heads).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )  # (n, heads, t, d / heads)
        weights = q @ k.transpose(0, 1, 3, 2) / np.float32(math.sqrt(d // heads))  # (n, heads, t, t)
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ v).transpose(0, 2, 1, 3).reshape(n, t, d)

    def _linear(self, name: str, x: Floats) -> Floats:
        rows = x.reshape(-1, x.shape[-1])  # one matrix product for all phrases
        y: Floats = rows @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], -1)

    def _norm(self, name: str, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(self.config.layer_norm_eps))
        normed: Floats = centred / deviation * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        return normed


def gelu(x: Floats) -> Floats:
    """x Φ(x); 1 − erf is Abramowitz and Stegun's 7.1.26, exact to 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    upper = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        upper *= t
        upper += np.float32(coefficient)
    upper *= t * np.exp(-z * z) / 2  # 1 − Φ(|x|)
    return np.where(x > 0, x - x * upper, x * upper)


def tensor_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of the network; the pooler of BERT's pretraining is not used."""
    d, wide = config.hidden_size, config.intermediate_size
    norms = ["embeddings.LayerNorm"]
    linear: dict[str, tuple[int, ...]] = {}  # name -> (outputs, inputs)
    for number in range(config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        attention = ("self.query", "self.key", "self.value", "output.dense")
        linear |= {f"{layer}.attention.{name}": (d, d) for name in attention}
        linear |= {f"{layer}.intermediate.dense": (wide, d), f"{layer}.output.dense": (d, wide)}
    return (
        {
            "embeddings.word_embeddings.weight": (config.vocab_size, d),
            "embeddings.position_embeddings.weight": (config.max_position_embeddings, d),
            "embeddings.token_type_embeddings.weight": (config.type_vocab_size, d),
        }
        | {f"{name}.{part}": (d,) for name in norms for part in ("weight", "bias")}
        | {f"{name}.weight": shape for name, shape in linear.items()}
        | {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    )


def _read_tensors(path: Path, config: BertConfig) -> dict[str, Floats]:
    """The network's tensors as float32; others in the file are not read."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; {REMEDY}.")
    if path.stat().st_size > MAX_WEIGHTS:
        raise UsageError(f"{path}: is larger than {MAX_WEIGHTS / 2**30:g} GiB; {REMEDY}.")
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            available = set(file.keys())
            for name, shape in tensor_shapes(config).items():
                if name not in available:
                    raise UsageError(f"{path}: has no tensor {name!r}, which {CONFIG} calls for; {REMEDY}.")
                if (found := tuple(file.get_slice(name).get_shape())) != shape:
                    raise UsageError(
                        f"{path}: the tensor {name!r} has the shape {list(found)}, where {CONFIG} calls for "
                        f"{list(shape)}; copy both files from the same model."
                    )
                tensors[name] = file.get_tensor(name).astype(np.float32)
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a dtype that NumPy lacks, such as bfloat16
        raise UsageError(
            f"{path}: cannot be read as float tensors ({reason_of(error)}); copy the file again."
        ) from error
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise UsageError(f"{path}: has values that are not finite numbers; copy the file again.")
    return tensors


def _open_tokenizer(path: Path, longest: int) -> tuple[Callable[[Sequence[str]], list[list[int]]], str, int]:
    """A function from phrases to token ids, the hash of the file, and the number of tokens."""
    tokenizers = import_optional(
        "tokenizers", "sentence vectors need the package tokenizers: pip install 'mlzsl[text]'."
    )
    content = read_bytes(path, MAX_TOKENIZER, REMEDY)
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except ValueError as error:
        raise UsageError(f"{path}: is not a tokenizer ({reason_of(error)}); copy the file again.") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)

    def tokenize(phrases: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(phrases))]

    return tokenize, sha256_of_bytes(content), tokenizer.get_vocab_size()


def _open_onnx(path: Path) -> Callable[[NDArray[np.int64]], Floats]:
    """The hidden states of an ONNX file with the inputs and the first output of Hugging Face's exporter."""
    onnxruntime = import_optional(
        "onnxruntime", f"{path}: needs ONNX Runtime: pip install 'mlzsl[cpu]', or use {WEIGHTS}, which does not."
    )
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except (errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail, errors.NotImplemented) as error:
        raise UsageError(f"{path}: is not a readable ONNX file ({reason_of(error)}); copy the file again.") from error
    inputs = {each.name for each in session.get_inputs()}
    if "input_ids" not in inputs or not inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise UsageError(f"{path}: takes {', '.join(sorted(inputs))}, not input_ids; {REMEDY}.")

    def hidden_states(ids: NDArray[np.int64]) -> Floats:
        feeds: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        states: Floats = session.run(None, {name: feeds[name] for name in inputs})[0]
        if states.ndim != 3:
            raise UsageError(f"{path}: the first output has {states.ndim} dimensions, not the 3 of hidden states.")
        return states

    return hidden_states
