"""The parsers that are fuzzed, by name."""

from fuzz.archives import SHARDS
from fuzz.datasets import COCO, LABELS_JSON, PHOTO_CSV, PHOTO_TABLES
from fuzz.harness import Parser
from fuzz.images import IMAGES
from fuzz.lists import LISTS
from fuzz.models import CALIBRATION_RECORDS, MANIFESTS, MODEL_FILES, PLANS
from fuzz.tags import CSV, JOURNALS, JSON_LINES, PARQUET, RUN_RECORDS
from fuzz.texts import ARRAYS, LABELS, PHOTO_LISTS, VECTORS, VECTORS_GZ
from fuzz.training import CACHES, CHECKPOINTS, TRAINING_STATES, WEIGHTS

PARSERS: dict[str, Parser] = {
    parser.name: parser
    for parser in (
        *(IMAGES, LABELS, VECTORS, VECTORS_GZ, *ARRAYS, PHOTO_LISTS, *SHARDS),
        *(COCO, LABELS_JSON, PHOTO_TABLES, PHOTO_CSV, *LISTS),
        *(JSON_LINES, CSV, PARQUET, RUN_RECORDS, JOURNALS),
        *(MODEL_FILES, MANIFESTS, PLANS, CALIBRATION_RECORDS),
        *(CHECKPOINTS, *WEIGHTS, TRAINING_STATES, CACHES),
    )
}
