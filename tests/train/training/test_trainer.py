"""The training loop: the loss falls, runs resume to equal tensors, and states of other runs are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig
from mlzsl.train.training.trainer import TrainingConfig, TrainingData, train

F, D_S, N_T, N_A, PHOTOS = 10, 8, 5, 12, 60
CONFIG = TrainingConfig(epochs=6, batch_size=16, plateau_patience=0)


@pytest.fixture
def graph() -> GraphTensors:
    generator = torch.Generator().manual_seed(0)
    adjacency = (torch.rand(N_T + N_A, N_T + N_A, generator=generator) < 0.3).fill_diagonal_(False)
    return GraphTensors(
        torch.randn(N_T + N_A, D_S, generator=generator), adjacency.nonzero().T.contiguous(), torch.arange(N_A), N_T
    )


@pytest.fixture
def data() -> TrainingData:
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(PHOTOS, N_T, generator=generator) < 0.3).float()
    features = torch.cat([targets, targets], dim=1) + 0.1 * torch.randn(PHOTOS, F, generator=generator)
    return TrainingData(features, torch.rand(PHOTOS, N_A, generator=generator).softmax(1), targets)


def make_model() -> RGCNPosVAE:
    torch.manual_seed(42)
    return RGCNPosVAE(RGCNPosVAEConfig(F, D_S, hidden_dim=16))


def same_tensors(a: RGCNPosVAE, b: RGCNPosVAE) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_loss_falls(graph: GraphTensors, data: TrainingData) -> None:
    history = train(make_model(), graph, data, replace(CONFIG, epochs=15), quiet=True)
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["rgcn"] < history[0]["rgcn"]


def test_the_same_seed_trains_equal_tensors(graph: GraphTensors, data: TrainingData) -> None:
    first, second = make_model(), make_model()
    train(first, graph, data, CONFIG, quiet=True)
    torch.rand(7)  # whatever else draws random numbers in between
    train(second, graph, data, CONFIG, quiet=True)
    assert same_tensors(first, second)


def test_one_process_in_fp32_is_bitwise_equal_to_a_plain_loop(graph: GraphTensors, data: TrainingData) -> None:
    ours, plain = make_model(), make_model()
    history = train(ours, graph, data, replace(CONFIG, epochs=3), quiet=True)
    edges = {name for name, _ in plain.named_parameters() if name.startswith("edge_weights.")}
    rates = {True: CONFIG.edge_rate * CONFIG.learning_rate, False: CONFIG.learning_rate}
    optimizer = torch.optim.Adam(
        [{"params": [each], "lr": rates[name in edges]} for name, each in plain.named_parameters()]
    )
    for epoch in range(3):
        torch.manual_seed(CONFIG.seed * 1_000_003 + epoch)
        total = 0.0
        for chosen in torch.randperm(PHOTOS).split(CONFIG.batch_size):
            x, p, targets = (each[chosen] for each in (data.features, data.external_probabilities, data.targets))
            e = plain.external_scores(p)
            mean, log_sigma = plain.posvae.encode(e, graph.external_embeddings)
            states = mean + (log_sigma / 2).exp() * torch.randn_like(mean)
            vae = plain.posvae.loss(e, plain.posvae.decode(states, graph.external_embeddings), mean, log_sigma)
            logits = plain.classify(
                torch.cat([plain.target_encoder(x, graph.target_embeddings), states]), graph, rows=graph.num_targets
            )
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets) + vae
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        assert history[epoch]["loss"] == total / PHOTOS
        assert history[epoch]["learning_rate"] == CONFIG.learning_rate  # no plateau yet
    assert same_tensors(ours, plain)


@pytest.mark.parametrize("interrupted_after", [1, 4])
def test_an_interrupted_run_resumes_to_equal_tensors(
    interrupted_after: int, graph: GraphTensors, data: TrainingData, tmp_path: Path
) -> None:
    uninterrupted = make_model()
    expected = train(uninterrupted, graph, data, CONFIG, quiet=True)
    state = tmp_path / "state.safetensors"
    train(make_model(), graph, data, replace(CONFIG, epochs=interrupted_after), state, quiet=True)
    resumed = RGCNPosVAE(RGCNPosVAEConfig(F, D_S, hidden_dim=16))  # as a new process would make it
    history = train(resumed, graph, data, CONFIG, state, resume=True, quiet=True)
    assert history == expected
    assert same_tensors(resumed, uninterrupted)


def test_the_learning_rate_falls_when_the_loss_plateaus(graph: GraphTensors, data: TrainingData) -> None:
    stuck = replace(CONFIG, learning_rate=1e-6, epochs=12)
    rates = [epoch["learning_rate"] for epoch in train(make_model(), graph, data, stuck, quiet=True)]
    assert min(rates) < 0.2 * rates[0]


def test_resuming_another_run_is_refused(graph: GraphTensors, data: TrainingData, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), graph, data, replace(CONFIG, epochs=1), state, quiet=True)
    other = TrainingData(data.features + 1, data.external_probabilities, data.targets)
    with pytest.raises(UsageError, match="belongs to a run with other photos"):
        train(make_model(), graph, other, CONFIG, state, resume=True, quiet=True)


def test_resuming_for_fewer_epochs_than_were_trained_is_refused(
    graph: GraphTensors, data: TrainingData, tmp_path: Path
) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), graph, data, CONFIG, state, quiet=True)
    fewer = replace(CONFIG, epochs=CONFIG.epochs - 1)
    with pytest.raises(UsageError, match=f"--epochs {fewer.epochs}: .* has {CONFIG.epochs} epochs already"):
        train(make_model(), graph, data, fewer, state, resume=True, quiet=True)


def test_resuming_with_another_version_of_pytorch_is_reported(
    graph: GraphTensors,
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), graph, data, CONFIG, state, quiet=True)
    train(make_model(), graph, data, CONFIG, state, resume=True)
    assert "note" not in capsys.readouterr().err
    monkeypatch.setattr(torch, "__version__", "99.0.0")
    train(make_model(), graph, data, CONFIG, state, resume=True)
    assert "was written with PyTorch 2." in capsys.readouterr().err


def test_resuming_nothing_is_refused(graph: GraphTensors, data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such training state"):
        train(make_model(), graph, data, CONFIG, tmp_path / "none.safetensors", resume=True, quiet=True)


def test_a_truncated_state_is_refused(graph: GraphTensors, data: TrainingData, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), graph, data, replace(CONFIG, epochs=1), state, quiet=True)
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(UsageError, match="not a readable training state"):
        train(make_model(), graph, data, CONFIG, state, resume=True, quiet=True)


def test_a_state_that_does_not_fit_is_one_sentence(graph: GraphTensors, data: TrainingData, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), graph, data, replace(CONFIG, epochs=1), state, quiet=True)
    with safe_open(state, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(name for name in tensors if name.startswith("model."))
    renamed = {"adam.x": tensors[name]} | {other: tensor for other, tensor in tensors.items() if other != name}
    deep = dict.fromkeys(metadata, "[" * 100000)
    for content, problem in (
        (save(renamed, metadata), "is damaged"),
        (save({**tensors, "adam.x": tensors[name].clone()}, metadata), "is damaged"),
        (save(tensors, deep), "is not a readable training state"),
    ):
        state.write_bytes(content)
        with pytest.raises(UsageError, match=problem):
            train(make_model(), graph, data, CONFIG, state, resume=True, quiet=True)


def test_a_loss_that_diverges_is_a_failure(graph: GraphTensors, data: TrainingData) -> None:
    broken = TrainingData(data.features * float("inf"), data.external_probabilities, data.targets)
    with pytest.raises(FailureError, match="lower the learning rate"):
        train(make_model(), graph, broken, CONFIG, quiet=True)
