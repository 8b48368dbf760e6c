"""What a job writes: tags as JSONL, CSV and Parquet, the record of a run, and the journal of an unfinished job."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz.datasets import has_columns, mutate_parquet
from fuzz.harness import FaultError, Parser, expect
from fuzz.mutations import encoded_json, mutate_bytes, mutate_json, mutate_lines
from pyarrow import parquet

from mlzsl.runtime.io.run_record import RunRecord, read_run_record, record_path
from mlzsl.runtime.io.tag_files import line_of, read_tags, write_output
from mlzsl.runtime.tagging.journal import JOB, journal_folder, open_journal
from mlzsl.runtime.tags import Tag, Tagged

DATA = Path(__file__).parents[1] / "compatibility" / "data"
PHOTOS = (
    Tagged("a.jpg", (Tag("dog", 0.93, True), Tag("traffic light", 0.5, True))),
    Tagged("b,c\n.jpg", error="the file is empty"),
    Tagged("é/\udcff.jpg", (Tag("café", 1.0, False),)),
    Tagged("shard.tar/0001.jpg", ()),
)
UNSEEN = frozenset({"café"})


def json_lines() -> bytes:
    return b"".join(map(line_of, PHOTOS))


def written(suffix: str) -> bytes:
    """The photos in the format of a suffix."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        records, target = Path(folder) / "records.jsonl", Path(folder) / f"tags{suffix}"
        records.write_bytes(json_lines())
        write_output(records, str(target))
        return target.read_bytes()


def parse(path: Path) -> list[Tagged]:
    return list(read_tags(path, UNSEEN))


def check_photos(photos: list[Tagged], count: int) -> None:
    """A photo for each record; scores are numbers from 0 to 1."""
    expect(len(photos), count, "records")
    for photo in photos:
        if not all(0 <= tag.score <= 1 and isinstance(tag.label, str) for tag in photo.tags):
            raise FaultError(f"tags {photo.tags}")


def first_record_read(content: bytes, result: Any, error: Exception | None) -> bool:
    return error is None or not re.search(r"(line|row) 1:|is not a file of tags|cannot be read", str(error))


# ---- JSONL -----------------------------------------------------------------------------------------------------------


def mutate_json_lines(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    if random.random() < 0.3:
        return mutate_bytes(random, mutate_lines(random, content, b'"'), others)
    lines = content.splitlines(keepends=True)
    at = random.randrange(len(lines))
    lines[at] = encoded_json(random, mutate_json(random, json.loads(lines[at]))) + b"\n"
    return b"".join(lines)


def check_json_lines(content: bytes, photos: list[Tagged]) -> None:
    check_photos(photos, len([line for line in re.split(rb"\r\n|\r|\n", content) if line]))


JSON_LINES = Parser(
    "tags-jsonl",
    ".jsonl",
    "its first line is a record",
    lambda: [json_lines(), (DATA / "tags.jsonl").read_bytes()],
    mutate_json_lines,
    parse,
    first_record_read,
    check_json_lines,
)


# ---- CSV -------------------------------------------------------------------------------------------------------------


def mutate_csv(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    changed = mutate_lines(random, content, random.choice((b",", b";"))) if random.random() < 0.6 else content
    return mutate_bytes(random, changed, others, start=random.choice((0, 23))) if random.random() < 0.5 else changed


def check_csv(content: bytes, photos: list[Tagged]) -> None:
    rows = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    check_photos(photos, len(list(rows)) - 1)


CSV = Parser(
    "tags-csv",
    ".csv",
    "its first line names the columns",
    lambda: [written(".csv")],
    mutate_csv,
    parse,
    first_record_read,
    check_csv,
)


# ---- Parquet ---------------------------------------------------------------------------------------------------------

PARQUET = Parser(
    "tags-parquet",
    ".parquet",
    "its footer is read and it has the columns",
    lambda: [written(".parquet")],
    mutate_parquet,
    parse,
    lambda content, result, error: has_columns(content, "path", "path_bytes", "tags", "error"),
    lambda content, photos: check_photos(photos, parquet.read_metadata(io.BytesIO(content)).num_rows),
)


# ---- the record of a run ---------------------------------------------------------------------------------------------


def parse_run_record(path: Path) -> RunRecord | None:
    tags = path.with_name("tags.jsonl")
    path.replace(record_path(str(tags)))
    return read_run_record(tags)


def check_run_record(content: bytes, record: RunRecord) -> None:
    document = json.loads(content)
    engine = document.get("engine")
    expect(len(record.engine.unseen), len(engine["unseen"]), "unseen labels")


RUN_RECORDS = Parser(
    "run-records",
    ".json",
    "it is an object in JSON",
    lambda: [(DATA / "tags.jsonl.run.json").read_bytes()],
    lambda random, content, others: encoded_json(random, mutate_json(random, json.loads(content))),
    parse_run_record,
    lambda content, result, error: not (error and ("is not JSON" in str(error) or "json: it is" in str(error))),
    check_run_record,
)


# ---- the journal -----------------------------------------------------------------------------------------------------

SETTINGS = {"inputs": ["photos"], "model": "0" * 64, "batch_size": 2, "selection": {"top_k": 5, "threshold": None}}
BATCH_SIZE = 2
SEPARATOR = b"\n--- job.json above, records.jsonl below ---\n"


def mutate_journal(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    job, records = content.split(SEPARATOR)
    if random.random() < 0.3:
        job = encoded_json(random, mutate_json(random, json.loads(job)))
    else:
        records = mutate_json_lines(random, records, [records])
    return job + SEPARATOR + records


def parse_journal(path: Path) -> tuple[int, bytes]:
    output = str(path.with_name("tags.jsonl"))
    folder = journal_folder(output)
    folder.mkdir(exist_ok=True)
    job, _, records = path.read_bytes().partition(SEPARATOR)
    (folder / JOB).write_bytes(job)
    (folder / "records.jsonl").write_bytes(records)
    with open_journal(output, SETTINGS, BATCH_SIZE, resume=True) as journal:
        return journal.done, journal.records.read_bytes()


def check_journal(content: bytes, result: tuple[int, bytes]) -> None:
    """The beginning of the records is kept, line by line, up to whole batches of tagged photos."""
    done, kept = result
    records = content.partition(SEPARATOR)[2]
    expect(records.startswith(kept) and (not kept or kept.endswith(b"\n")), True, "whole lines are kept")
    expect(done, kept.count(b"\n"), "photos done")
    tagged = sum("error" not in json.loads(line) or json.loads(line)["error"] is None for line in kept.splitlines())
    expect(tagged % BATCH_SIZE, 0, "photos beyond the last batch")


JOURNALS = Parser(
    "journals",
    ".journal",
    "its job is that of the command",
    lambda: [json.dumps(SETTINGS).encode() + SEPARATOR + json_lines()],
    mutate_journal,
    parse_journal,
    lambda content, result, error: error is None,
    check_journal,
)
