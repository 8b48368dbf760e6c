"""The PyTorch baseline has the scores of the reference, in fp32 and approximately in bf16."""

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
from mlzsl.imaging.preprocessing import Preprocessing

SIZE = 32


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A folder with a checkpoint, the manifest of the model exported from it, and its baseline."""
    folder = tmp_path_factory.mktemp("resnet18")
    manifest = read_manifest(write_resnet18_model(folder, image_size=SIZE))
    checkpoint = folder / "checkpoint.safetensors"
    return folder, manifest, open_eager(checkpoint, manifest, None, "cpu", batch_size=2, threads=1)


def test_scores_equal_the_reference(opened):
    folder, manifest, eager = opened
    images = random_images(3, seed=1)
    [expected] = reference_scores(folder / "checkpoint.safetensors", manifest, [images])
    np.testing.assert_allclose(eager.scores(images), expected, atol=1e-6)


def test_bf16_scores_are_close_and_the_fp32_network_is_unchanged(opened):
    _, _, eager = opened
    images = torch.from_numpy(random_images(3, seed=1))
    assert isinstance(eager.network, Scorer)
    before = eager.scores(images.numpy())
    with torch.inference_mode():
        half = HalfScorer(eager.network).eval()(images)
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half.numpy(), before, atol=0.05)
    np.testing.assert_array_equal(eager.scores(images.numpy()), before)


def test_photos_are_decoded_by_a_dataloader(opened, tmp_path):
    _, _, eager = opened
    paths = []
    for index, image in enumerate(random_images(3)):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(image).save(paths[-1])
    seen = []
    network = eager.network
    eager.network = lambda images: seen.append(images.clone()) or network(images)
    try:
        eager.tag(paths)
    finally:
        eager.network = network
    assert [tuple(images.shape) for images in seen] == [(2, SIZE, SIZE, 3), (1, SIZE, SIZE, 3)]
    torch.testing.assert_close(torch.cat(seen), torch.stack(list(PillowPhotos(paths, Preprocessing(SIZE)))))
