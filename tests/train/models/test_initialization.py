"""Models are initialized with edge weights that follow similarity, and with standardized inputs."""

import numpy as np
import pytest
import torch

from mlzsl.graph.embeddings.taxonomy import TaxonomyEmbeddings
from mlzsl.graph.labels.sets import UNSEEN, load_label_set
from mlzsl.train.models.initialization import fit_edges_to_similarity, similarity
from mlzsl.train.models.layers import EdgeWeights
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn_posvae import EXTERNAL_SCORE_STD, RGCNPosVAE, RGCNPosVAEConfig

F, D_S, D_H, N_T, N_A, PHOTOS = 9, 16, 24, 6, 10, 200


@pytest.fixture
def graph() -> GraphTensors:
    generator = torch.Generator().manual_seed(0)
    edges = (1 - torch.eye(N_T + N_A)).nonzero().T.contiguous()
    return GraphTensors(torch.randn(N_T + N_A, D_S, generator=generator), edges, torch.arange(N_A), N_T)


@pytest.fixture
def photos() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = 5 + 3 * torch.rand(PHOTOS, F, generator=generator)
    features[:, 0] = 2  # constant
    return features, torch.randn(PHOTOS, N_A, generator=generator).softmax(dim=1)


def initialized(graph: GraphTensors, photos: tuple[torch.Tensor, torch.Tensor]) -> RGCNPosVAE:
    torch.manual_seed(7)
    model = RGCNPosVAE(RGCNPosVAEConfig(F, D_S, D_H, backbone_classes=N_A))
    model.initialize(graph, *photos, torch.zeros(PHOTOS, N_T))
    return model


def test_edge_weights_of_unseen_labels_are_initialized_to_their_similarity() -> None:
    coco, imagenet = load_label_set("coco80"), load_label_set("imagenet1k")
    vectors = TaxonomyEmbeddings()
    targets = torch.from_numpy(vectors.embed(coco, "target").vectors)
    externals = torch.from_numpy(vectors.embed(imagenet, "external").vectors)[::8]
    unseen = torch.tensor([label in UNSEEN["coco80"] for label in coco.labels])
    torch.manual_seed(0)
    edge_weights = EdgeWeights(targets.shape[1], 256)
    fit_edges_to_similarity(edge_weights, torch.cat([targets[~unseen], externals]))
    everything = torch.cat([targets[unseen], externals])
    expected_weights = similarity(everything)
    u, v = (1 - torch.eye(len(everything))).nonzero().T
    kept = u < int(unseen.sum())  # the edges of unseen labels
    with torch.inference_mode():
        weights = edge_weights(GraphTensors(everything, torch.stack([u, v]), torch.arange(0), 16))[u, v]
    assert np.corrcoef(weights[kept], expected_weights[u, v][kept])[0, 1] > 0.8


def test_similarity_gives_each_class_a_few_strong_neighbours() -> None:
    embeddings = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    weights = similarity(embeddings)
    assert torch.allclose(weights, weights.T)
    strong = (weights > 0.5).sum() - 50  # a class is similar to itself
    assert 1.5 < strong / 50 <= 2.0


def test_inputs_are_standardized(graph: GraphTensors, photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = initialized(graph, photos)
    torch.manual_seed(7)
    fresh = RGCNPosVAE(RGCNPosVAEConfig(F, D_S, D_H, backbone_classes=N_A))
    features, p = photos
    standard = (features - features.mean(0)) / features.std(0, correction=0).where(
        features.std(0) > 1e-6, torch.tensor(1.0)
    )
    S = graph.target_embeddings / graph.embeddings.square().mean().sqrt()
    expected = fresh.target_encoder.hidden(standard, S[:, None])
    assert torch.allclose(model.target_encoder.hidden(features, graph.target_embeddings[:, None]), expected, atol=1e-4)
    slope = model.posvae.projection.weight / fresh.posvae.projection.weight
    assert torch.allclose(slope * (1 + N_A * p).log().std(correction=0), torch.tensor(EXTERNAL_SCORE_STD), rtol=1e-4)


def test_the_same_seed_gives_the_same_parameters(
    graph: GraphTensors, photos: tuple[torch.Tensor, torch.Tensor]
) -> None:
    one, two = initialized(graph, photos).state_dict(), initialized(graph, photos).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in one.values())


def test_a_graph_of_one_class_is_initialized(photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    lone = GraphTensors(torch.ones(1, D_S), torch.empty(2, 0, dtype=torch.int64), torch.arange(0), 1)
    model = RGCNPosVAE(RGCNPosVAEConfig(F, D_S, D_H, backbone_classes=N_A))
    model.initialize(lone, photos[0], torch.empty(PHOTOS, 0), torch.zeros(PHOTOS, 1))
    assert bool(torch.isfinite(model(photos[0], torch.empty(PHOTOS, 0), lone)).all())
