"""Training in 16 bits and on a GPU: close to fp32, with fp32 parameters, and refused where it is not available."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from ranks import small_training
from safetensors.torch import load_file
from smallgraph import TRAINABLE

from mlzsl.cli.errors import UsageError
from mlzsl.cli.main import main
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.models import initialization
from mlzsl.train.training.trainer import Trainer, TrainingConfig, train

CONFIG = TrainingConfig(epochs=4, batch_size=16)


@pytest.fixture(autouse=True)
def _short_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initialization, "FIT_STEPS", 20)


@pytest.mark.parametrize("name", TRAINABLE)
def test_bf16_losses_are_close_to_fp32_and_parameters_and_moments_stay_fp32(name: str, tmp_path: Path) -> None:
    model, graph, data = small_training(name)
    in_fp32 = train(model, graph, data, CONFIG, quiet=True)
    model, graph, data = small_training(name)
    state = tmp_path / "state.safetensors"
    in_bf16 = train(model, graph, data, replace(CONFIG, precision="bf16"), state, quiet=True)
    assert in_bf16[-1]["loss"] < in_bf16[0]["loss"]
    for a, b in zip(in_bf16, in_fp32, strict=True):
        assert a["loss"] != b["loss"]  # it was computed in bf16
        assert a["loss"] == pytest.approx(b["loss"], rel=0.005)
    kept = load_file(state)
    assert any(tensor_name.startswith("adam.") for tensor_name in kept)
    assert {tensor.dtype for tensor in [*kept.values(), *model.parameters()]} == {torch.float32}


def test_an_interrupted_run_in_bf16_resumes_to_equal_tensors(tmp_path: Path) -> None:
    config, state = replace(CONFIG, precision="bf16"), tmp_path / "state.safetensors"
    uninterrupted, graph, data = small_training("RGCN-PosVAE")
    expected = train(uninterrupted, graph, data, config, quiet=True)
    resumed, graph, data = small_training("RGCN-PosVAE")
    train(resumed, graph, data, replace(config, epochs=2), state, quiet=True)
    assert train(resumed, graph, data, config, state, resume=True, quiet=True) == expected
    for a, b in zip(resumed.state_dict().values(), uninterrupted.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_resuming_in_another_precision_is_refused(tmp_path: Path) -> None:
    model, graph, data = small_training("visual-semantic")
    train(model, graph, data, replace(CONFIG, epochs=1), tmp_path / "state.safetensors", quiet=True)
    changed = replace(CONFIG, precision="bf16")
    with pytest.raises(UsageError, match="belongs to a run with other"):
        train(model, graph, data, changed, tmp_path / "state.safetensors", resume=True, quiet=True)


def test_a_step_that_overflows_fp16_is_skipped_and_the_scale_falls() -> None:
    model, graph, data = small_training("visual-semantic")
    trainer = Trainer(model, graph, data, TrainingConfig(learning_rate=0.01, precision="fp16"))
    before = [each.detach().clone() for each in model.parameters()]
    scale = trainer.scaler.get_scale()
    batch, (_, noise) = torch.arange(8), trainer.generators(epoch=0)
    trainer.data = replace(data, features=1e5 * data.features)  # beyond the range of fp16
    trainer.train_step(batch, noise)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert trainer.scaler.get_scale() < scale
    trainer.data = data
    losses = [trainer.train_step(batch, noise)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0]
    assert {each.dtype for each in model.parameters()} == {torch.float32}


def call(*flags: str) -> Result:
    return CliRunner().invoke(main, ["train", *flags])


def test_fp16_on_a_cpu_is_refused_in_one_sentence() -> None:
    result = call("--precision", "fp16")
    assert result.exit_code == 2
    (sentence,) = result.stderr.strip().splitlines()
    assert sentence == (
        "mlzsl-train: error: --precision fp16: needs a GPU (--device cuda); choose bf16 or fp32 on a CPU."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_one_error_and_nothing_is_trained(tmp_path: Path) -> None:
    output = tmp_path / "checkpoint.safetensors"
    result = call("--device", "cuda", "--cache", str(tmp_path / "cache"), "--output", str(output))
    assert result.exit_code == 2
    (sentence,) = result.stderr.strip().splitlines()
    assert sentence.startswith("mlzsl-train: error: --device cuda: ")
    assert sentence.endswith("train with --device cpu.")
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a PyTorch for it")
class TestOnAGpu:
    """Tests that need a GPU."""

    @pytest.mark.parametrize("name", [name for name in TRAINABLE if name != "RGCN-PosVAE"])
    def test_models_without_noise_have_the_losses_of_the_cpu(self, name: str) -> None:
        model, graph, data = small_training(name)
        expected = train(model, graph, data, CONFIG, quiet=True)
        for ours, cpu in zip(self.train_on_gpu(name, "fp32"), expected, strict=True):
            assert ours == pytest.approx(cpu, rel=1e-3)

    @pytest.mark.parametrize("name", TRAINABLE)
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_16_bit_losses_are_close_to_fp32(self, name: str, precision: str) -> None:
        for ours, fp32 in zip(self.train_on_gpu(name, precision), self.train_on_gpu(name, "fp32"), strict=True):
            assert ours["loss"] == pytest.approx(fp32["loss"], rel=0.02)

    def test_an_interrupted_run_in_fp16_resumes_with_its_scale(self, tmp_path: Path) -> None:
        state = tmp_path / "state.safetensors"
        expected = self.train_on_gpu("RGCN-PosVAE", "fp16")
        self.train_on_gpu("RGCN-PosVAE", "fp16", epochs=2, state_path=state)
        again = self.train_on_gpu("RGCN-PosVAE", "fp16", state_path=state, resume=True)
        assert [epoch["loss"] for epoch in again] == pytest.approx([epoch["loss"] for epoch in expected], rel=1e-3)

    def test_the_command_trains_on_it_and_records_it(self, tmp_path: Path) -> None:
        generate_scenes(tmp_path / "photos", 24, seed=5, size=64, quiet=True)
        flags = ["--data", str(tmp_path / "photos"), "--backbone", "small", "--epochs", "1", "--threshold", "0.9"]
        places = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "checkpoint.safetensors")]
        result = call(*flags, *places, "--device", "cuda", "--precision", "bf16", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["device"] == torch.cuda.get_device_name()

    @staticmethod
    def train_on_gpu(name: str, precision: str, epochs: int = CONFIG.epochs, **more: Any) -> list[dict[str, float]]:
        gpu = torch.device("cuda", 0)
        model, graph, data = small_training(name)
        config = replace(CONFIG, precision=precision, epochs=epochs)
        return train(model.to(gpu), graph.to(gpu), data.to(gpu), config, quiet=True, **more)
