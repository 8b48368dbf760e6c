"""Small random CLIP models that open_clip knows by name, and their weights in a file."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

SIZE, DIMENSION = 64, 24  # of images in pixels, of embeddings
VISION = {"image_size": SIZE, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "small-vit": {"vision_cfg": VISION, "text_cfg": TEXT},
    "small-resnet": {"vision_cfg": VISION | {"layers": [1, 1, 1, 1], "width": 8}, "text_cfg": TEXT},
    "small-timm": {
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_model_pretrained": True, "image_size": SIZE},
        "text_cfg": TEXT,
    },
    # like SigLIP: a bias, a text tower of its own, no causal mask
    "small-sigmoid": {
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last"},
    },
}


def small_clip(architecture: str, folder: Path, seed: int = 0) -> tuple[torch.nn.Module, Path]:
    """Register an architecture of CONFIGS, and create it as open_clip does, with random weights.

    Returns:
        The model in evaluation mode, and the file of its weights in `folder`.
    """
    config = folder / f"{architecture}.json"
    config.write_text(json.dumps({"embed_dim": DIMENSION} | CONFIGS[architecture]))
    open_clip.add_model_config(config)
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, load_weights=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of the images below, or outputs would hardly vary
    with torch.no_grad():
        model.train().encode_image(torch.randn(16, 3, SIZE, SIZE) + torch.randn(16, 3, 1, 1))
    model.eval()
    weights = folder / f"{architecture}-{seed}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    return model, weights
