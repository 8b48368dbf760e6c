"""The PyTorch baseline scores as the checkpoint's system does, in fp32 and nearly so in bf16."""

import numpy as np
import pytest
import torch
from PIL import Image
from resnetmodel import write_resnet18_model
from tinymodel import random_images

from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.export.baseline import HalfScorer, PillowPhotos, open_eager
from mlzsl.export.network import Scorer
from mlzsl.export.reference import reference_scores

SIZE = 32


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A folder with a checkpoint, the manifest of the model exported from it, and its baseline."""
    folder = tmp_path_factory.mktemp("resnet18")
    manifest = read_manifest(write_resnet18_model(folder, image_size=SIZE))
    checkpoint = folder / "checkpoint.safetensors"
    return folder, manifest, open_eager(checkpoint, manifest, None, "cpu", batch_size=2, threads=1)


def test_its_scores_are_those_of_the_system(opened):
    folder, manifest, eager = opened
    pictures = random_images(3, seed=1)
    [expected] = reference_scores(folder / "checkpoint.safetensors", manifest, [pictures])
    np.testing.assert_allclose(eager.scores(pictures), expected, atol=1e-6)


def test_bf16_scores_nearly_the_same_and_leaves_the_original_as_it_is(opened):
    _, _, eager = opened
    pictures = torch.from_numpy(random_images(3, seed=1))
    assert isinstance(eager.network, Scorer)
    before = eager.scores(pictures.numpy())
    with torch.inference_mode():
        half = HalfScorer(eager.network).eval()(pictures)
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half.numpy(), before, atol=0.05)
    np.testing.assert_array_equal(eager.scores(pictures.numpy()), before)


def test_photos_come_through_a_dataloader(opened, tmp_path):
    _, _, eager = opened
    paths = []
    for place, image in enumerate(random_images(3)):
        paths.append(str(tmp_path / f"{place}.png"))
        Image.fromarray(image).save(paths[-1])
    seen = []
    network = eager.network
    eager.network = lambda images: seen.append(images.clone()) or network(images)
    try:
        eager.tag(paths)
    finally:
        eager.network = network
    assert [tuple(images.shape) for images in seen] == [(2, SIZE, SIZE, 3), (1, SIZE, SIZE, 3)]
    torch.testing.assert_close(torch.cat(seen), torch.stack(list(PillowPhotos(paths, SIZE))))
