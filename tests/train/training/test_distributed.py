"""Several processes train like one with the whole batch, and fail together."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ranks import largest_difference, result_of, run_ranks, small_training, tensors_to_json
from resnetmodel import write_resnet18_weights
from smallgraph import TRAINABLE

from mlzsl.cli.errors import FailureError, MlzslError, UsageError
from mlzsl.cli.main import main
from mlzsl.train.checkpoint import load_checkpoint
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.models import initialization
from mlzsl.train.training.distributed import Processes, RemoteRankError
from mlzsl.train.training.trainer import TrainingConfig, train

SHARED = TrainingConfig(epochs=3, batch_size=16)  # of 61 photos: the last batch has 13
TOO_FEW = TrainingConfig(epochs=2, batch_size=4)  # the last batch has one photo for two processes
BF16 = TrainingConfig(epochs=3, batch_size=16, precision="bf16")


@given(st.integers(1, 200), st.integers(1, 9))
def test_every_photo_of_a_batch_is_in_one_shard(photos: int, count: int) -> None:
    shards = [Processes(rank, count).shard(photos) for rank in range(count)]
    own = [index for shard in shards if shard.weight for index in range(photos)[shard.photos]]
    assert own == list(range(photos))
    assert sum(shard.weight for shard in shards) == pytest.approx(1)
    assert all(range(photos)[shard.photos] for shard in shards)  # never a mean over nothing


def _train_all(processes: Processes, folder: Path) -> Any:
    initialization.FIT_STEPS = 20
    results = {}
    for name in TRAINABLE:
        model, graph, data = small_training(name)
        history = train(model, graph, data, SHARED, quiet=True, processes=processes)
        results[name] = (history, tensors_to_json(model))
    for key, config in (("too few", TOO_FEW), ("bf16", BF16)):
        model, graph, data = small_training("RGCN-PosVAE")
        results[key] = (train(model, graph, data, config, quiet=True, processes=processes), tensors_to_json(model))
    state = folder / "state.safetensors"
    model, graph, data = small_training("RGCN-PosVAE")
    train(model, graph, data, TrainingConfig(epochs=1, batch_size=16), state, quiet=True, processes=processes)
    state.with_name("interrupted.safetensors").write_bytes(state.read_bytes()) if processes.is_main else None
    torch.manual_seed(processes.rank)  # a restarted process has other parameters
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    history = train(model, graph, data, SHARED, state, resume=True, quiet=True, processes=processes)
    results["resumed"] = (history, tensors_to_json(model))
    return results


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two processes that trained every model."""
    folder = tmp_path_factory.mktemp("pair")
    assert run_ranks(_train_all, folder) == [0, 0]
    return folder


@pytest.fixture(autouse=True)
def _short_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initialization, "FIT_STEPS", 20)


def as_one(name: str, config: TrainingConfig, history: list[dict[str, float]], tensors: dict[str, list[float]]) -> None:
    model, graph, data = small_training(name)
    expected = train(model, graph, data, config, quiet=True)
    for ours, one in zip(history, expected, strict=True):
        assert ours == pytest.approx(one, rel=1e-6)
    assert largest_difference(model, tensors) < 1e-5


@pytest.mark.parametrize("name", TRAINABLE)
def test_two_processes_have_the_losses_and_tensors_of_one(name: str, pair: Path) -> None:
    history, tensors = result_of(pair, 0)[name]
    as_one(name, SHARED, history, tensors)


def test_a_process_without_a_photo_does_not_change_the_result(pair: Path) -> None:
    history, tensors = result_of(pair, 0)["too few"]
    as_one("RGCN-PosVAE", TOO_FEW, history, tensors)


def test_all_processes_have_equal_tensors(pair: Path) -> None:
    assert result_of(pair, 0) == result_of(pair, 1)


def test_an_interrupted_run_of_two_resumes_to_equal_tensors(pair: Path) -> None:
    assert result_of(pair, 0)["resumed"] == result_of(pair, 0)["RGCN-PosVAE"]


def test_one_process_resumes_a_run_of_two(pair: Path) -> None:
    model, graph, data = small_training("RGCN-PosVAE")
    history = train(model, graph, data, SHARED, pair / "interrupted.safetensors", resume=True, quiet=True)
    assert [epoch["loss"] for epoch in history] == pytest.approx(
        [epoch["loss"] for epoch in result_of(pair, 0)["RGCN-PosVAE"][0]], rel=1e-6
    )


def test_two_processes_in_bf16_have_losses_close_to_fp32(pair: Path) -> None:
    in_bf16, in_fp32 = (result_of(pair, 0)[name][0] for name in ("bf16", "RGCN-PosVAE"))
    for a, b in zip(in_bf16, in_fp32, strict=True):
        assert a["loss"] != b["loss"]
        assert a["loss"] == pytest.approx(b["loss"], rel=0.01)


def _fail_together(processes: Processes, folder: Path) -> list[str]:
    reported = []
    for failing in (0, 1):
        for main_first in (False, True):
            try:
                with processes.barrier(main_first):
                    if processes.rank == failing:
                        raise UsageError(f"photos/{failing}.jpg: not there.")
            except RemoteRankError as error:
                reported.append(f"remote error, {error.exit_code}")
            except MlzslError as error:
                reported.append(str(error))
    order = folder / "order"
    with processes.barrier(main_first=True), open(order, "a") as file:
        file.write(f"{processes.rank}")
    reported.append(order.read_text())
    try:
        model, graph, data = small_training("visual-semantic")
        train(model, graph, data, TrainingConfig(batch_size=1), quiet=True, processes=processes)
    except MlzslError as error:
        reported.append(str(error))
    return reported


def test_if_one_process_fails_all_fail_and_one_reports_the_error(tmp_path: Path) -> None:
    assert run_ranks(_fail_together, tmp_path) == [0, 0]
    remote = "remote error, 2"
    of_first, of_second = "photos/0.jpg: not there.", "photos/1.jpg: not there."
    first, second = result_of(tmp_path, 0), result_of(tmp_path, 1)
    assert first[:4] == [of_first, of_first, remote, remote]
    assert second[:4] == [remote, remote, of_second, of_second]
    assert second[4] == "01"
    assert first[5].startswith("--batch-size 1: fewer photos than the 2 processes")
    assert second[5] == "another process of this training failed (exit code 2)."


def _second_dies(processes: Processes, folder: Path) -> str:
    model, graph, data = small_training("visual-semantic")
    if not processes.is_main:
        losses, calls = model.losses, iter(range(9))

        def deadly(*args: Any) -> Any:
            if next(calls) == 6:
                os._exit(9)  # as if killed, in the second epoch
            return losses(*args)

        model.losses = deadly  # type: ignore[method-assign]
    try:
        train(model, graph, data, SHARED, folder / "state.safetensors", quiet=True, processes=processes)
    except FailureError as error:
        return str(error)
    return "ended well"


def test_if_a_process_is_killed_the_others_report_it_and_the_last_epoch_resumes(tmp_path: Path) -> None:
    assert run_ranks(_second_dies, tmp_path) == [0, 9]
    reported = result_of(tmp_path, 0)
    assert reported.startswith("another process of this training has ended or cannot be reached")
    assert reported.endswith("run the command again with --resume.")
    assert "\n" not in reported
    model, graph, data = small_training("visual-semantic")
    history = train(model, graph, data, SHARED, tmp_path / "state.safetensors", resume=True, quiet=True)
    assert len(history) == SHARED.epochs


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 labelled scenes, and weights of a ResNet-18."""
    root = tmp_path_factory.mktemp("launched")
    generate_scenes(root / "photos", 24, seed=5, size=64, quiet=True)
    write_resnet18_weights(root / "resnet18.safetensors")
    return root


def flags(root: Path, name: str) -> list[str]:
    return [
        "--data", str(root / "photos"), "--backbone", "resnet18", "--image-size", "32", "--epochs", "2", "--quiet",
        "--backbone-weights", str(root / "resnet18.safetensors"), "--cache", str(root / "cache"), "--batch-size", "5",
        "--model", "visual-semantic", "--threshold", "0.9", "--output", str(root / f"{name}.safetensors"),
    ]  # fmt: skip


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    """`mlzsl-train` as `torchrun` launches it twice."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [sys.executable, *launcher, str(Path(sysconfig.get_path("scripts")) / "mlzsl-train"), *words]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_torchrun_trains_the_same_checkpoint_as_one_process(photos: Path) -> None:
    two = launched(*flags(photos, "two"), "--json")
    assert two.returncode == 0, two.stderr
    record = json.loads(two.stdout)  # printed once
    assert (record["processes"], record["device"]) == (2, "cpu")
    one = CliRunner().invoke(main, ["train", *flags(photos, "one"), "--json"])
    for ours, alone in zip(record["history"], json.loads(one.stdout)["history"], strict=True):
        assert ours == pytest.approx(alone, rel=1e-6)
    of_two, of_one = (load_checkpoint(photos / f"{name}.safetensors").model for name in ("two", "one"))
    assert largest_difference(of_one, tensors_to_json(of_two)) < 1e-5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_torchrun_without_a_gpu_reports_it_once(photos: Path) -> None:
    result = launched(*flags(photos, "none"), "--device", "cuda")
    assert result.returncode == 1  # torchrun's own
    reported = [line for line in result.stderr.splitlines() if line.startswith("mlzsl-train: error:")]
    assert len(reported) == 1
    assert reported[0].startswith("mlzsl-train: error: --device cuda: ")
    assert "exitcode: 2" in result.stderr
    assert "another process of this training" not in result.stderr
