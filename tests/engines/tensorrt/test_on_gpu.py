"""Plans built and run on a GPU with each installed library: scores equal the model's."""

import importlib.util
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gpu import has_gpu
from tinymodel import TinyModel, random_images, reference_scores

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.plan_manifest import BatchProfile
from mlzsl.engines.tensorrt.build import build_plan
from mlzsl.engines.tensorrt.cuda import open_cuda
from mlzsl.engines.tensorrt.engine import PlanEngine, open_plan
from mlzsl.engines.tensorrt.library import open_library
from mlzsl.engines.tensorrt.options import BuildOptions, capability_members

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt_rtx"])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    if not has_gpu():
        pytest.skip("needs an NVIDIA GPU and its driver")
    if not importlib.util.find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    rtx = request.param == "tensorrt_rtx"
    if rtx:
        try:
            capability_members(open_library(request.param, "a test"), (open_cuda("a test").gpu.compute_capability,))
        except UsageError as error:
            pytest.skip(str(error))
    folder = tmp_path_factory.mktemp(request.param)
    timing_cache = None if rtx else folder / "timing"
    options = BuildOptions(rtx=rtx, batch=BatchProfile(2, 4, 8), timing_cache=timing_cache)
    return build_plan(tiny_model.path, folder / "tiny.plan", options, quiet=True).path


@pytest.fixture(params=[True, False], ids=["graphs", "calls"])
def engine(request: pytest.FixtureRequest, plan: Path) -> Iterator[PlanEngine]:
    with closing(open_plan(plan, graphs=request.param)) as opened:
        yield opened


def test_scores_equal_the_formulas_for_any_batch_size(engine: PlanEngine) -> None:
    for count in (1, 2, 3, 8, 8, 8, 9, 40):
        images = random_images(count, seed=count)
        np.testing.assert_allclose(engine.scores(images), reference_scores(images), atol=1e-5, rtol=0)


def test_results_are_in_order_for_varying_batch_sizes(engine: PlanEngine) -> None:
    batches = [random_images(1 + 17 * i % 40, seed=i) for i in range(40)]
    for batch, scores in zip(batches, engine.run(iter(batches)), strict=True):
        np.testing.assert_allclose(scores, reference_scores(batch), atol=1e-5, rtol=0)
