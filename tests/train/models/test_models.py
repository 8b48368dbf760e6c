"""Every model against its paper's formulas, written naively in float64, and the properties that all models share."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from smallgraph import TRAINABLE, small_batch, small_graph, small_model

from mlzsl.cli.errors import UsageError
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.train.models import initialization
from mlzsl.train.models.fast0tag import squash
from mlzsl.train.models.model import GraphTensors, Model, graph_tensors
from mlzsl.train.models.registry import MODELS, config_of, create_model
from mlzsl.train.models.skg import relation_of_pairs
from mlzsl.train.training.trainer import TrainingConfig, TrainingData, train

T, A = 6, 15  # targets, external classes
TARGETS = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6, [1] * 6, [0, 1, 1, 0, 1, 0]])


def exact(name: str) -> tuple[Model, GraphTensors, torch.Tensor, torch.Tensor]:
    """A model, its graph, x and p^a, in float64."""
    graph, (features, logits) = small_graph(T, A).double(), small_batch(name=name)
    return small_model(name).double(), graph, features.double(), graph.external_probabilities(logits.double())


def linear(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return layer.weight @ x if layer.bias is None else layer.weight @ x + layer.bias


def mlp(first: torch.nn.Linear, second: torch.nn.Linear, *parts: torch.Tensor) -> torch.Tensor:
    return linear(second, linear(first, torch.cat(parts)).relu())


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / math.sqrt(sum(value.item() ** 2 for value in vector))


def cross_entropy(scores: torch.Tensor, targets: torch.Tensor) -> float:
    terms = [
        math.log(score) if target else math.log(1 - score)
        for score, target in zip(scores.flatten().tolist(), targets.flatten().tolist(), strict=True)
    ]
    return -sum(terms) / len(terms)


def equal(found: torch.Tensor, expected: torch.Tensor | float) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-11, atol=1e-12)


@torch.no_grad()
def test_visual_semantic_is_a_bilinear_compatibility_with_cross_entropy() -> None:
    model, graph, x, p = exact("visual-semantic")
    expected = torch.stack(
        [
            torch.stack(
                [(unit(s) @ linear(model.projection, photo) + model.offset[0]).sigmoid() for s in graph.embeddings]
            )
            for photo in x
        ]
    )[:, :T]
    equal(model(x, p, graph), expected)
    equal(model.losses(x, p, graph, TARGETS.double())["loss"], cross_entropy(expected, TARGETS))


@torch.no_grad()
def test_fast0tag_ranks_along_the_principal_direction_with_ranknet() -> None:
    model, graph, x, p = exact("Fast0Tag")
    ranks = torch.zeros(len(x), T, dtype=torch.float64)
    for i, photo in enumerate(x):
        direction = linear(model.direction, mlp(model.first, model.second, photo).relu())
        for y in range(T):
            ranks[i, y] = direction @ unit(graph.embeddings[y])
    equal(model(x, p, graph), (1 + ranks / (1 + ranks.abs())) / 2)
    losses = []
    for row, target in zip(ranks.tolist(), TARGETS.tolist(), strict=True):
        pairs = [(a, b) for a, has_a in zip(row, target, strict=True) if has_a
                 for b, has_b in zip(row, target, strict=True) if not has_b]  # fmt: skip
        if pairs:
            losses.append(sum(math.log(1 + math.exp(b - a)) for a, b in pairs) / len(pairs))
    assert len(losses) == 3  # a photo with every label or none has no pairs
    equal(model.losses(x, p, graph, TARGETS.double())["loss"], sum(losses) / 3)


def test_fast0tag_scores_keep_the_order_of_ranks_where_a_sigmoid_saturates() -> None:
    ranks = torch.tensor([-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0])
    assert (squash(ranks).diff() > 0).all()
    assert (ranks.sigmoid().diff() == 0).any()
    assert ((squash(ranks) > 0) & (squash(ranks) < 1)).all()


@torch.no_grad()
def test_skg_propagates_beliefs_along_the_graph() -> None:
    model, graph, x, p = exact("SKG")
    S, kinds = graph.embeddings, relation_of_pairs(graph)
    weights = torch.zeros(T, T, dtype=torch.float64)
    for u in range(T):
        for v in range(T):
            if u != v:
                relation = model.relations[int(kinds[u, v])]
                weights[u, v] = mlp(relation.hidden, relation.out, S[u], S[v])
    d = model.config.belief_dim
    W_z, W_r, W = model.update.of_messages.weight.split(d)
    b_z, b_r, b = model.update.of_messages.bias.split(d)
    U_z, U_r = model.update.gates.weight.split(d)
    scores = torch.zeros(model.config.steps, len(x), T, dtype=torch.float64)
    for i, photo in enumerate(x):
        h = [mlp(model.first_belief.hidden, model.first_belief.out, photo, S[y]) for y in range(T)]
        for t in range(model.config.steps):
            u = [sum(weights[y, other] * h[other] for other in range(T)).tanh() for y in range(T)]
            updated = []
            for y in range(T):
                z = (W_z @ u[y] + b_z + U_z @ h[y]).sigmoid()
                r = (W_r @ u[y] + b_r + U_r @ h[y]).sigmoid()
                candidate = (W @ u[y] + b + model.update.candidate.weight @ (r * h[y])).tanh()
                updated.append((1 - z) * h[y] + z * candidate)
            h = updated
            for y in range(T):
                scores[t, i, y] = mlp(model.belief_hidden, model.belief_out, h[y]).sigmoid()
    equal(model(x, p, graph), scores[-1])
    steps = model.config.steps
    expected = sum(cross_entropy(scores[t - 1], TARGETS) / (steps - t + 1) for t in range(1, steps + 1))
    equal(model.losses(x, p, graph, TARGETS.double())["loss"], expected)


def test_skg_has_three_relations_of_labels() -> None:
    graph = small_graph(T, A)
    joined, is_a = set(map(tuple, graph.edges.T.tolist())), set(map(tuple, graph.is_a.T.tolist()))
    kinds = relation_of_pairs(graph)
    for u in range(T):
        for v in range(T):
            expected = -1 if u == v else 2 if (u, v) in is_a else 1 if (u, v) in joined else 0
            assert kinds[u, v] == expected
    assert set(kinds.unique().tolist()) == {-1, 0, 1, 2}


def test_hypernyms_among_labels_are_found_in_wordnet() -> None:
    labels = load_label_set("nuswide81")
    graph = graph_tensors(
        build_class_graph(labels, labels.labels, LabelSet("none", (), ()), open_embeddings("taxonomy"))
    )
    pairs = {(labels.labels[u], labels.labels[v]) for u, v in graph.is_a.T.tolist()}
    assert {("animal", "zebra"), ("zebra", "animal"), ("vehicle", "cars")} <= pairs
    assert not {("zebra", "cow"), ("sky", "animal"), ("animal", "animal")} & pairs
    taxonomy = Taxonomy.shipped()
    for u, above in enumerate(labels.synsets):
        for v, below in enumerate(labels.synsets):
            indices = taxonomy.index(above), taxonomy.index(below)
            related = indices[0] in taxonomy.ancestors(indices[1]) or indices[1] in taxonomy.ancestors(indices[0])
            assert ((labels.labels[u], labels.labels[v]) in pairs) == (related and indices[0] != indices[1])


def naive_graph_network(model: Model, graph: GraphTensors, states: list[torch.Tensor]) -> list[torch.Tensor]:
    """Eq. 7, normalization, eq. 6 and the final MLP, node by node: a logit for each node."""
    n, S = len(states), graph.embeddings
    W = torch.eye(n, dtype=torch.float64)
    for u, v in graph.edges.T.tolist():
        if u < n and v < n:
            W[u, v] = mlp(model.edge_weights.hidden, model.edge_weights.out, S[u], S[v]).sigmoid()
    degrees = W.sum(dim=1)
    for layer in model.graph_layers:
        states = [
            sum(W[u, v] / (degrees[u] * degrees[v]).sqrt() * (states[v] @ layer.weight) for v in range(n)).relu()
            for u in range(n)
        ]
    return [mlp(model.classifier_hidden, model.classifier_out, state)[0] for state in states]


@pytest.mark.parametrize("name", ["RGCN", "RGCN-XL"])
@torch.no_grad()
def test_rgcn_without_external_classes_and_with_them_like_targets(name: str) -> None:
    model, graph, x, p = exact(name)
    nodes = T if name == "RGCN" else T + A
    scores = torch.zeros(len(x), nodes, dtype=torch.float64)
    for i, photo in enumerate(x):
        encoder = model.target_encoder
        states = [mlp(encoder.hidden, encoder.out, photo, graph.embeddings[y]) for y in range(nodes)]
        scores[i] = torch.stack(naive_graph_network(model, graph, states)).sigmoid()
    equal(model(x, p, graph), scores[:, :T])
    expected = cross_entropy(scores[:, :T], TARGETS)
    if name == "RGCN-XL":
        squares = [(scores[i, T + e] - p[i, e]).item() ** 2 for i in range(len(x)) for e in range(A)]
        expected += model.config.external_weight * sum(squares) / len(squares)
    equal(model.losses(x, p, graph, TARGETS.double())["loss"], expected)


@torch.no_grad()
def test_training_free_propagates_probabilities_by_similarity() -> None:
    model, graph, x, p = exact("training-free")
    k, m = model.config.sharpness, model.config.half_cosine
    expected = torch.zeros(len(x), T, dtype=torch.float64)
    for i in range(len(x)):
        for y in range(T):
            cosines = [(unit(graph.embeddings[y]) @ unit(graph.embeddings[T + e])).item() for e in range(A)]
            v = sum(p[i, e].item() * math.exp(k * (cosines[e] - m)) for e in range(A))
            expected[i, y] = v / (1 + v)
    equal(model(x, p, graph), expected)
    ranked_by_sum = (p @ (k * torch.nn.functional.normalize(graph.external_embeddings)
                          @ torch.nn.functional.normalize(graph.target_embeddings).T).exp()).argsort(dim=1)  # fmt: skip
    assert torch.equal(model(x, p, graph).argsort(dim=1), ranked_by_sum)


@torch.no_grad()
def test_evidence_weighs_external_classes_and_seen_labels_equally_for_every_label() -> None:
    model, graph, features, p = exact("evidence")
    graph = replace(graph, embeddings=graph.embeddings.clone())
    graph.embeddings[2] = 3 * model.seen_embeddings[1]  # a target that is a seen label
    F, w, v = model.config.feature_dim, model.weights.tolist(), model.own_weights.tolist()
    expected = torch.zeros(len(p), T, dtype=torch.float64)
    for i in range(len(p)):
        q = features[i, F:].exp()
        g = [(features[i, :F] @ model.classifier_weight[:, s] + model.classifier_bias[s]).item() for s in range(4)]
        for y in range(T):
            s_y = unit(graph.embeddings[y])
            cosines = [(s_y @ unit(graph.embeddings[T + e])).item() for e in range(A)]
            of_seen = [(s_y @ s_s).item() for s_s in model.seen_embeddings]
            channels = []
            for probabilities in (p[i], q[graph.external_logits], model.class_prior[graph.external_logits]):
                for k in (10, 20, 30):
                    propagated = sum(probabilities[e].item() * math.exp(k * (cosines[e] - 0.5)) for e in range(A))
                    channels.append(math.log(propagated))
            for k in (3, 10, 30):
                similarities = [math.exp(k * (cosine - 1)) if cosine < 0.999 else 0 for cosine in of_seen]
                channels.append(sum(a * each for a, each in zip(similarities, g, strict=True)) / sum(similarities))
            z = sum(weight * channel for weight, channel in zip(w, channels, strict=True)) + model.offset.item()
            own = [math.exp(20 * (cosine - 1)) for cosine in of_seen]
            o, t = sum(a * each for a, each in zip(own, g, strict=True)), min(max(own), 1)
            z = (1 - t) * z + t * (v[0] * z + v[1] * o + v[2])
            expected[i, y] = 1 / (1 + math.exp(-z))
    equal(model(features, p, graph), expected)


def test_evidence_is_fitted_without_steps_and_ranks_unseen_labels() -> None:
    generator = torch.Generator().manual_seed(3)
    graph, data = small_graph(T, A), training_data(200, "evidence")
    nearest = (
        torch.nn.functional.normalize(graph.target_embeddings)
        @ torch.nn.functional.normalize(graph.external_embeddings).T
    )  # (T, A)
    unseen = int(nearest.amax(dim=1).argmax())  # the label most similar to an external class
    kept = [y for y in range(T) if y != unseen]
    training = replace(graph, embeddings=graph.embeddings[[*kept, *range(T, T + A)]], num_targets=T - 1)
    targets = (torch.rand(200, T, generator=generator) < 0.3).float()
    p = ((targets @ nearest.clamp_min(0) * 8) + torch.randn(200, A, generator=generator)).softmax(dim=1)
    features = data.features.clone()
    features[:, model_width() :] = -20.0
    features[:, model_width() + graph.external_logits] = p.log()
    model = create_model("evidence", config_of(small_model("evidence")) | {"seen_labels": T - 1})
    model.initialize(training, features[:150], p[:150], targets[:150][:, kept])
    scores = model.eval()(features[150:], p[150:], graph)[:, unseen]
    labelled = targets[150:, unseen].bool()
    above = (scores[labelled][:, None] > scores[~labelled]).float().mean()
    assert above > 0.8  # of all pairs, half by chance
    assert model.weights[:6].sum() > 0


def model_width() -> int:
    """F."""
    return int(small_model("evidence").config.feature_dim)


@pytest.mark.parametrize("name", ["training-free", "evidence"])
def test_models_that_need_external_classes_refuse_a_graph_without_them(name: str) -> None:
    with pytest.raises(UsageError, match="needs external classes"):
        small_model(name).initialize(small_graph(T, 0), *small_batch(name=name), TARGETS.float())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_scores_are_in_0_1_and_depend_on_one_photo_alone(name: str) -> None:
    model, graph, x, p = exact(name)
    together = model(x, p, graph)
    assert together.shape == (len(x), T)
    assert ((together >= 0) & (together <= 1)).all()
    assert torch.equal(together, model(x, p, graph))
    for i in range(len(x)):
        torch.testing.assert_close(model(x[i : i + 1], p[i : i + 1], graph)[0], together[i], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_one_model_scores_any_labels(name: str) -> None:
    model, (x, logits) = small_model(name), small_batch(name=name)
    for targets, externals in ((1, 15), (9, 4), (3, 0)):
        graph = small_graph(targets, externals)
        scores = model(x, graph.external_probabilities(logits), graph)
        assert scores.shape == (len(x), targets)
        assert scores.isfinite().all()


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_parameter_learns(name: str) -> None:
    model, graph, x, p = exact(name)
    model.train().losses(x, p, graph, TARGETS.double())["loss"].backward()
    idle = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


def training_data(photos: int = 64, name: str = "RGCN") -> TrainingData:
    """Photos with labels that depend on their features."""
    graph, (x, logits) = small_graph(T, A), small_batch(photos, name)
    targets = (x[:, :T] > 0.8).float()
    targets[:, 0] = 1 - targets[:, 1:].amax(dim=1)  # no photo without a label
    return TrainingData(x, graph.external_probabilities(logits), targets)


@pytest.fixture(autouse=True)
def short_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initialization, "FIT_STEPS", 20)


def trained(
    name: str, epochs: int, state: Path | None = None, resume: bool = False
) -> tuple[Model, list[dict[str, float]]]:
    graph, data = small_graph(T, A), training_data(name=name)
    torch.manual_seed(42)
    sizes = {"seen_labels": T} if name == "evidence" else {}
    model = create_model(name, config_of(small_model(name)) | sizes)
    model.initialize(graph, data.features, data.external_probabilities, data.targets)
    return model, train(model, graph, data, TrainingConfig(epochs=epochs, batch_size=16), state, resume, quiet=True)


@pytest.mark.parametrize("name", TRAINABLE)
def test_training_lowers_the_loss_and_resumes_to_the_same_tensors(name: str, tmp_path: Path) -> None:
    uninterrupted, history = trained(name, epochs=6)
    assert history[-1]["loss"] < history[0]["loss"]
    trained(name, epochs=3, state=tmp_path / "state.safetensors")
    resumed, again = trained(name, epochs=6, state=tmp_path / "state.safetensors", resume=True)
    assert again == history
    for a, b in zip(uninterrupted.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["training-free", "evidence"])
def test_models_without_parameters_are_trained_without_steps(name: str) -> None:
    model, history = trained(name, epochs=6)
    assert history == []
    assert not list(model.parameters())


def test_resuming_as_another_model_is_refused(tmp_path: Path) -> None:
    trained("visual-semantic", epochs=1, state=tmp_path / "state.safetensors")
    with pytest.raises(UsageError, match="belongs to a run with other"):
        trained("Fast0Tag", epochs=2, state=tmp_path / "state.safetensors", resume=True)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("SKGs", {}, "unknown model 'SKGs'; expected one of visual-semantic, Fast0Tag, SKG, RGCN"),
        ("SKG", {"steps": 0}, "invalid configuration entries: steps"),
        ("SKG", {"steps": True}, "invalid configuration entries: steps"),
        ("SKG", {"hidden_dim": 2**63}, "invalid configuration entries: hidden_dim"),
        ("training-free", {"sharpness": math.inf}, "invalid configuration entries: sharpness"),
        ("RGCN", {"vae_weight": 1.0}, "invalid configuration entries: vae_weight"),
    ],
)
def test_invalid_configurations_are_refused(name: str, change: dict[str, float], sentence: str) -> None:
    config = config_of(small_model(name)) if name in MODELS else {}
    with pytest.raises(UsageError, match=sentence):
        create_model(name, config | change)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_if_and_only_if_it_has_parameters(name: str) -> None:
    assert MODELS[name].learns == any(True for _ in small_model(name).parameters())
