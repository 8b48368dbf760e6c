"""A checkpoint that is written in a second: the demo's small backbone and RGCN-PosVAE for coco80, both untrained."""

from pathlib import Path

import torch

from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.backbones.pretraining import external_label_set
from mlzsl.train.backbones.resnets import SmallResNet
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig

UNSEEN = {"bicycle", "boat", "bird", "cup", "fork", "spoon", "chair", "keyboard", "microwave", "vase"}


def write_small_checkpoint(path: Path, size: int = 64) -> None:
    """Write a checkpoint with random parameters, the same in every call; its images are `size` pixels wide."""
    labels, embeddings, external = load_label_set("coco80"), open_embeddings("taxonomy"), external_label_set()
    seen = tuple(label for label in labels.labels if label not in UNSEEN)
    graph = build_class_graph(labels, seen, external, embeddings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Backbone("small", SmallResNet(len(external)), external, Preprocessing(size=size))
        config = RGCNPosVAEConfig(backbone.feature_dim, graph.embeddings.shape[1], hidden_dim=32)
        model = RGCNPosVAE(config).eval()
    save_checkpoint(path, Checkpoint(model, backbone, labels, seen, embeddings.source, 0.5, {}))
