"""`benchmarks/gpu.sh` checks its arguments first; its record holds what steps printed and why others failed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def refused(*words: str) -> str:
    ran = subprocess.run(["bash", BENCHMARKS / "gpu.sh", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    (sentence,) = ran.stderr.splitlines()
    return sentence


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU here")
def test_without_a_gpu_one_sentence_says_so_and_nothing_starts(tmp_path: Path) -> None:
    assert "no NVIDIA GPU here" in refused(str(tmp_path / "bench"))
    assert not (tmp_path / "bench").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--phtos"], "--phtos: unknown"),
        (["--photos"], "--photos: a folder or file must follow"),
        (["--photos", "nowhere"], "--photos nowhere: is not there"),
        (["one", "two"], "two: one was named already"),
    ],
)
def test_wrong_words_are_refused(words: list[str], sentence: str) -> None:
    assert sentence in refused(*words)


def entry(runner: str, batch: int, rates: list[float]) -> dict[str, object]:
    without = [2 * rate for rate in rates]
    return {
        "runner": runner, "batch": batch, "differs": 0.001, "with_transfers": rates, "without_transfers": without,
    }  # fmt: skip


def record(folder: Path, steps: str, **printed: object) -> str:
    logs = folder / "logs"
    logs.mkdir()
    (logs / "steps.tsv").write_text(steps)
    for name, value in printed.items():
        (logs / f"{name}.out").write_text(value if isinstance(value, str) else json.dumps(value))
        (logs / f"{name}.err").write_text("working\nerror: the last line\n")
    command = [sys.executable, BENCHMARKS / "gpu_record.py", logs, folder / "gpu.md", folder / "gpu.json"]
    subprocess.run(command, check=True)
    assert json.loads((folder / "gpu.json").read_text())["found"].keys() == printed.keys()
    return (folder / "gpu.md").read_text()


def test_ratios_are_taken_repeat_by_repeat(tmp_path: Path) -> None:
    runners = [
        entry("mlzsl plan fp16", 8, [200.0, 900.0, 400.0]),
        entry("PyTorch eager float16", 8, [100.0, 300.0, 400.0]),
        entry("mlzsl plan fp16", 32, [70.0, 70.0, 70.0]),
    ]
    throughput = {"repeats": 3, "scores_range": 0.5, "runners": runners, "skipped": []}
    text = record(tmp_path, "throughput-net\t0\tgpu.py throughput\n", **{"throughput-net": throughput})
    # 2, 3 and 1 times as fast; the ratio of medians would be 1.33. torch.compile did not run, nor PyTorch at 32.
    assert "| mlzsl plan fp16 | 400 (2.00 ×, –) | 70.0 (–, –) | 1.0e-03 |" in text
    assert "| PyTorch eager float16 | 600 (1.00 ×, –) | – | 1.0e-03 |" in text
    assert "torch.compile (which did not run)" in text


def test_steps_that_failed_or_were_skipped_are_named_with_their_reason(tmp_path: Path) -> None:
    text = record(
        tmp_path,
        "tests\t0\tpytest\nbuild-net\t1\tmlzsl-build\nnet-fp8\tskipped\tFP8 needs another GPU\n",
        tests="....\n3 passed in 1.0s\n",
        **{"build-net": ""},
    )
    assert "3 passed in 1.0s" in text
    assert "| build-net | exit code 1: error: the last line |" in text
    assert "| net-fp8 | FP8 needs another GPU |" in text
    assert "| tests |" not in text
