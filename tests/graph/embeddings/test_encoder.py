"""The text encoder equals BERT as the paper defines it, for every phrase on its own, and refuses damaged files."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file
from smallencoder import CONFIG, WORDS, write_small_encoder, write_tokenizer
from torch.nn import functional

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.encoder import gelu, open_text_encoder

PHRASES = ("cat", "the red dog on the traffic light", "Cats, dogs", "zebra", "a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_small_encoder(tmp_path)
    return tmp_path


def test_vectors_are_those_of_a_padded_batch_in_torch(folder: Path) -> None:
    expected = reference(load_file(folder / "model.safetensors"), PHRASES)
    np.testing.assert_allclose(open_text_encoder(folder)(PHRASES), expected, atol=1e-5)


def test_a_phrase_has_the_same_vector_whatever_is_encoded_with_it(folder: Path) -> None:
    encoder = open_text_encoder(folder)
    alone = np.concatenate([encoder([phrase]) for phrase in PHRASES])
    many = encoder([*PHRASES, *(f"{' '.join(['dog'] * count)}" for count in range(1, 20))] * 30)
    np.testing.assert_allclose(many[: len(PHRASES)], alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)


def test_a_phrase_of_more_tokens_than_positions_is_cut_off(folder: Path) -> None:
    encoder = open_text_encoder(folder)
    vectors = encoder([" ".join(["cat"] * 22), " ".join(["cat"] * 22 + ["dog"] * 100)])
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_gelu_is_exact_to_single_precision() -> None:
    x = np.linspace(-12, 12, 100_001, dtype=np.float32)
    np.testing.assert_allclose(gelu(x), functional.gelu(torch.from_numpy(x).double()).numpy(), atol=1e-6)


def test_half_precision_weights_are_read(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    expected = open_text_encoder(folder)(PHRASES)
    save_file({name: tensor.astype(np.float16) for name, tensor in tensors.items()}, folder / "model.safetensors")
    np.testing.assert_allclose(open_text_encoder(folder)(PHRASES), expected, atol=2e-2)


def test_an_onnx_file_is_run_where_there_are_no_safetensors(tmp_path: Path) -> None:
    table = np.random.default_rng(1).normal(size=(len(WORDS), 8)).astype(np.float32)
    write_tokenizer(tmp_path / "tokenizer.json")
    write_onnx(tmp_path / "onnx" / "model.onnx", table)
    expected = np.array([table[[2, 5, 3]].mean(axis=0), table[[2, 4, 10, 6, 3]].mean(axis=0)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(open_text_encoder(tmp_path)(["cat", "a red dog"]), expected, atol=1e-6)


def test_a_change_of_weights_or_tokenizer_changes_the_hash(tmp_path: Path) -> None:
    write_small_encoder(tmp_path / "one")
    write_small_encoder(tmp_path / "same")
    write_small_encoder(tmp_path / "other", seed=1)
    first, same, other = (open_text_encoder(tmp_path / name).sha256 for name in ("one", "same", "other"))
    assert first == same
    content = json.loads((tmp_path / "same" / "tokenizer.json").read_text())
    content["normalizer"]["lowercase"] = False
    (tmp_path / "same" / "tokenizer.json").write_text(json.dumps(content))
    assert len({first, other, open_text_encoder(tmp_path / "same").sha256}) == 3


def set_config(folder: Path, **values: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | values))


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors")


def add_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"][0] = np.nan
    save_file(tensors, folder / "model.safetensors")


def set_pooling(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": false}')


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: cannot be read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04."), "copy the file again"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
        (lambda folder: set_config(folder, model_type="gpt2"), 'model_type is "gpt2", not one of bert'),
        (lambda folder: set_config(folder, num_attention_heads=5), "not a multiple of 5 heads"),
        (lambda folder: set_config(folder, hidden_size=2**40), "hidden_size"),
        (lambda folder: set_config(folder, hidden_size=16), r"has the shape \[15, 32\], where config.json calls for"),
        (lambda folder: set_config(folder, vocab_size=3), "has 15 tokens, but config.json says 3"),
        (drop_a_tensor, "has no tensor 'encoder.layer.1.output.dense.bias'"),
        (add_nan, "not finite numbers"),
        (set_pooling, "only the mean of hidden states is supported"),
    ],
)
def test_a_damaged_folder_is_one_sentence(folder: Path, damage: object, sentence: str) -> None:
    damage(folder)
    with pytest.raises(UsageError, match=sentence):
        open_text_encoder(folder)


def reference(tensors: dict[str, np.ndarray], phrases: tuple[str, ...]) -> np.ndarray:
    """BERT on one padded batch, with an attention mask, as the paper writes it."""
    w = {name: torch.from_numpy(tensor).double() for name, tensor in tensors.items()}
    ids = [[2, *tokens(phrase), 3] for phrase in phrases]
    longest = max(map(len, ids))
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in ids]).double()
    batch = torch.tensor([row + [0] * (longest - len(row)) for row in ids])

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-12)

    x = w["embeddings.word_embeddings.weight"][batch]
    x = x + w["embeddings.position_embeddings.weight"][torch.arange(longest)]
    x = norm("embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0])
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        parts = []
        q, k, v = (linear(f"{layer}.attention.self.{name}", x) for name in ("query", "key", "value"))
        for head in range(4):
            of = slice(8 * head, 8 * head + 8)
            logits = q[..., of] @ k[..., of].transpose(1, 2) / 8**0.5
            weights = logits.masked_fill(mask[:, None, :] == 0, -torch.inf).softmax(dim=2)
            parts.append(weights @ v[..., of])
        attended = linear(f"{layer}.attention.output.dense", torch.cat(parts, dim=2))
        x = norm(f"{layer}.attention.output.LayerNorm", x + attended)
        wide = functional.gelu(linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + linear(f"{layer}.output.dense", wide))
    mean = (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return functional.normalize(mean).numpy()


def tokens(phrase: str) -> list[int]:
    """The ids of a phrase of whole words, plurals and commas."""
    ids = []
    for word in phrase.lower().replace(",", " ,").split():
        singular = word.removesuffix("s") if word not in WORDS else word
        ids += [WORDS.index(singular), WORDS.index("##s")][: 1 + (singular != word)] if singular in WORDS else [1]
    return ids


def write_onnx(path: Path, table: np.ndarray) -> None:
    """A network whose hidden states are rows of a table."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", table.shape[1]])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "table",
        inputs,
        [output],
        [numpy_helper.from_array(table, "table")],
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
