"""Write what the steps of gpu.sh printed as one Markdown section for benchmarks/README.md and one JSON file.

python benchmarks/gpu_record.py FOLDER/logs FOLDER/gpu.md FOLDER/gpu.json
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from mlzsl.runtime.bench.load import ratios
from mlzsl.runtime.report import rate

BASES = ("PyTorch eager", "torch.compile")  # what rates are compared with, by how their names begin
SHOWN = ("largest difference", "mean difference", "flipped tags", "top-3 agreement")
Row = Sequence[object]


@click.command()
@click.argument("logs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("markdown", type=click.Path(path_type=Path))
@click.argument("raw", type=click.Path(path_type=Path))
def main(logs: Path, markdown: Path, raw: Path) -> None:
    """Write the record."""
    lines = (logs / "steps.tsv").read_text().splitlines()
    steps = [dict(zip(("name", "code", "what"), line.split("\t"), strict=True)) for line in lines]
    found = {step["name"]: printed(logs / f"{step['name']}.out") for step in steps if step["code"] != "skipped"}
    for step in steps:
        step["reason"] = reason(step, logs)
    raw.write_text(json.dumps({"steps": steps, "found": found}, indent=2) + "\n")
    text = "\n\n".join(part for part in sections(steps, found) if part) + "\n"
    markdown.write_text(text.replace(f"{logs.resolve().parent}/", ""))


def printed(path: Path) -> Any:
    """What a step printed: JSON, or its last line where it is none."""
    text = path.read_text()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return (text.strip().splitlines() or [""])[-1]


def reason(step: dict[str, str], logs: Path) -> str:
    """Why a step failed or was skipped; "" where it succeeded."""
    if step["code"] == "skipped":
        return step["what"]
    if step["code"] == "0":
        return ""
    lines = (logs / f"{step['name']}.err").read_text().strip().splitlines() or [""]
    return f"exit code {step['code']}: {lines[-1]}"


def sections(steps: list[dict[str, str]], found: dict[str, Any]) -> Iterable[str]:
    """The record from its heading on."""
    yield heading(found.get("machine"))
    yield f"`pytest -m gpu`: {found.get('tests')}"
    failed = [(step["name"], step["reason"]) for step in steps if step["reason"]]
    yield "Steps that failed or were skipped:\n\n" + table(("step", "why"), failed) if failed else ""
    yield plans(of("build-", found))
    yield certificates(of("verify-", found))
    for name, throughput in of("throughput-", found).items():
        yield rates(name, throughput, "with_transfers", "from host memory to host memory, batches overlapping")
        yield rates(
            name,
            throughput,
            "without_transfers",
            "images and scores stay on the device (ONNX Runtime waits for each batch)",
        )
        yield skipped_section(throughput["skipped"])
    for name, ablation in of("ablation-", found).items():
        yield loads(name, ablation)
        yield skipped_section(ablation["skipped"])
    for name, compared in of("compare-", found).items():
        yield comparison(name, compared["comparison"])
        yield skipped_section(
            [{"runner": one["name"], "batch": None} | one for one in compared["comparison"]["skipped"]]
        )
    yield pipelines(of("stages-", found), of("busy-", found))


def of(prefix: str, found: dict[str, Any]) -> dict[str, Any]:
    """What the steps with a prefix printed as JSON, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in found.items()
        if name.startswith(prefix) and isinstance(value, dict)
    }


def heading(machine: Any) -> str:
    """Machine, command and date."""
    if not isinstance(machine, dict):
        return "## On a GPU\n\nThe machine is unknown."
    gpu = machine["gpu"]
    rehearsed = "--rehearse" in machine["command"].split()
    title = (
        "A rehearsal on a CPU: nothing to record"
        if rehearsed
        else "On a GPU: precisions, batch sizes, other implementations"
    )
    on = (
        f"{gpu['name']} ({gpu['memory.total']}, {gpu['power.limit']}, {gpu['clocks.max.sm']}, compute capability "
        f"{gpu['compute_cap']}), driver {gpu['driver_version']}; "
        if gpu
        else ""
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"## {title}\n\n`{machine['command']}` ({machine['date']}, commit {machine['commit']}): {on}{machine['cores']} "
        f"cores of {machine['cpu']}; {machine['platform']}; {versions}, PyTorch for CUDA {machine['cuda_of_torch']}."
    )


def plans(builds: dict[str, Any]) -> str:
    """How each plan was built."""
    rows = [
        (
            name,
            f"{build['build']['library']} {build['build']['version']}",
            f"{build['seconds']:.1f} s",
            f"{build['plan_bytes'] / 1e6:.1f} MB",
            ", ".join(f"{count} {kind}" for kind, count in build["build"]["precisions"].items()),
        )
        for name, build in builds.items()
    ]
    return table(("plan", "built with", "in", "size", "layers by compute type"), rows)


def certificates(verified: dict[str, Any]) -> str:
    """Each engine against PyTorch in fp32, on photos; an untrained head may exceed tolerances on tags."""
    rows = []
    for name, verification in verified.items():
        check = verification["checks"][-1]
        values = {measured["name"]: measured for measured in check["measurements"]}
        rows.append(
            (
                name,
                f"{verification['execution']['backend']} {verification['execution']['provider']}",
                check["photos"],
                *(number(values.get(shown)) for shown in SHOWN),
                "within its tolerances" if verification["passed"] else f"exceeded: {', '.join(exceeded(verification))}",
            )
        )
    return table(("engine", "on", "photos", *SHOWN, ""), rows)


def number(measured: dict[str, Any] | None) -> str:
    """A measurement of a certificate."""
    if measured is None or measured["value"] is None:
        return ""
    return f"{measured['value']:.2f} %" if measured["unit"] == "%" else f"{measured['value']:.1e}"


def exceeded(verification: dict[str, Any]) -> list[str]:
    """The measurements that exceed their tolerances, each once."""
    return list(
        dict.fromkeys(
            measured["name"]
            for check in verification["checks"]
            for measured in check["measurements"]
            if not measured["passed"]
        )
    )


def rates(name: str, throughput: dict[str, Any], kind: str, words: str) -> str:
    """Photos a second of each runner at each batch size, and the ratio to PyTorch, repeat by repeat."""
    measured = {(entry["runner"], entry["batch"]): entry for entry in throughput["runners"]}
    runners, batches = (list(dict.fromkeys(key)) for key in zip(*measured, strict=True)) if measured else ([], [])
    bases = [next((runner for runner in runners if runner.startswith(base)), None) for base in BASES]
    rows = []
    for runner in runners:
        differs = max(measured[runner, batch]["differs"] for batch in batches if (runner, batch) in measured)
        cells = [rate_cell(measured, runner, bases, batch, kind) for batch in batches]
        rows.append((runner, *cells, f"{differs:.1e}"))
    over = " and to ".join(base or f"{name} (which did not run)" for base, name in zip(bases, BASES, strict=True))
    return (
        f"{name}, {words}: photos/s, median of {throughput['repeats']} interleaved repeats, and their ratio to "
        f"{over}. *Differs* is the largest difference of a score from PyTorch's in fp32, whose scores span "
        f"{throughput['scores_range']:.1e}.\n\n"
        + table(("runner", *(f"batch {batch}" for batch in batches), "differs"), rows)
    )


def rate_cell(
    measured: dict[tuple[str, int], dict[str, Any]], runner: str, bases: Sequence[str | None], batch: int, kind: str
) -> str:
    """The rate and its ratios: 12,345 (2.31 ×, 1.12 ×)."""
    if (runner, batch) not in measured:
        return "–"
    ours = measured[runner, batch][kind]
    theirs = [measured[base, batch][kind] if base and (base, batch) in measured else None for base in bases]
    times = ", ".join("–" if base is None else f"{ratios(ours, base).median:.2f} ×" for base in theirs)
    return f"{rate(median(ours))} ({times})"


def loads(name: str, ablation: dict[str, Any]) -> str:
    """Throughput by CUDA graphs and batches in flight."""
    batches = sorted({load["batch"] for load in ablation["loads"]})
    cells: dict[Row, dict[int, str]] = {}
    for load in ablation["loads"]:
        milliseconds = 1000 * median(load["p50_seconds"])
        cell = f"{rate(median(load['photos_per_second']))} ({milliseconds:.2f} ms)"
        cells.setdefault((load["precision"], load["graphs"], load["in_flight"]), {})[load["batch"]] = cell
    rows = [(*key, *(by_batch.get(batch, "–") for batch in batches)) for key, by_batch in cells.items()]
    heads = ("precision", "CUDA graphs", "in flight", *(f"batch {batch}" for batch in batches))
    return (
        f"{name}: photos/s (and the median latency of a batch), from host memory to host memory, median of "
        f"{ablation['repeats']} interleaved repeats.\n\n" + table(heads, rows)
    )


def comparison(name: str, compared: dict[str, Any]) -> str:
    """From files to scores."""
    rows = [
        (
            entry["name"],
            rate(entry["photos_per_second"]["median"]),
            f"{entry['speedup']['median']:.2f} ({entry['speedup']['low']:.2f}–{entry['speedup']['high']:.2f})",
            f"{entry['difference']:.1e}",
        )
        for entry in compared["baselines"]
    ]
    return (
        f"{name}, from files to scores: {compared['photos']:,} photos a repeat in batches of {compared['batch_size']}, "
        f"median of {compared['repeats']} interleaved repeats; differences are from {compared['reference']}.\n\n"
        + table(("runner", "photos/s", "speed-up of the first", "differs by"), rows)
    )


def pipelines(stages: dict[str, Any], busy: dict[str, Any]) -> str:
    """Which stage limits, and GPU utilization."""
    rows = []
    for name, bench in stages.items():
        found = bench["models"][0]["stages"]
        watched = busy.get(name, {}).get("gpu_busy_percent")
        rows.append(
            (
                name,
                *(rate(found[stage]["median"]) for stage in ("decode", "engine", "pipeline")),
                found["limiting"],
                f"{found['pipeline']['median'] / found['engine']['median']:.0%}",
                f"{watched['median']:.0f} % ({watched['low']:.0f}–{watched['high']:.0f})" if watched else "not known",
            )
        )
    heads = ("engine", "decode alone, photos/s", "engine alone", "pipeline", "limits", "pipeline of engine")
    return table((*heads, "GPU busy (nvidia-smi)"), rows)


def skipped_section(skipped: Sequence[dict[str, Any]]) -> str:
    """What did not run, and why."""
    named = [
        f"- {entry['runner']}" + (f", batch {entry['batch']}" if entry["batch"] else "") + f": {entry['reason']}"
        for entry in skipped
    ]
    return "Did not run:\n\n" + "\n".join(named) if named else ""


def table(heads: Row, rows: Sequence[Row]) -> str:
    """A Markdown table; nothing without rows."""
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
