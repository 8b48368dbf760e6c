"""An untrained ResNet-18: its weights, and a model file with an untrained head."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from mlzsl.export.exporter import export_model
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig


def write_resnet18_weights(path: Path) -> None:
    """Write random weights with torchvision's names; seeds the default generator."""
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), path)


def write_resnet18_model(folder: Path, labels: str = "voc20", image_size: int = 224) -> Path:
    """Write `resnet18.onnx`, its checkpoint and weights into a folder; return the path of the model file."""
    write_resnet18_weights(folder / "weights.safetensors")
    backbone = open_backbone("resnet18", folder / "weights.safetensors", image_size, quiet=True)
    label_set, embeddings = load_label_set(labels), open_embeddings("taxonomy")
    graph = build_class_graph(label_set, label_set.labels, backbone.external, embeddings)
    model = RGCNPosVAE(RGCNPosVAEConfig(backbone.feature_dim, graph.embeddings.shape[1])).eval()
    checkpoint = Checkpoint(model, backbone, label_set, label_set.labels, embeddings.source, 0.5, {})
    save_checkpoint(folder / "checkpoint.safetensors", checkpoint)
    return export_model(folder / "checkpoint.safetensors", None, folder / "resnet18.onnx").path
