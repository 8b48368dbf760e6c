"""Small datasets in the formats of their publishers, valid and invalid."""

import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.registry import default_labels, load_data
from mlzsl.train.datasets.source import Source


def write_photos(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def as_dict(photos: PhotoSet | None) -> dict[str, set[str]]:
    assert photos is not None
    return dict(zip((path.name for path in photos.paths), map(set, photos.labels), strict=True))


def load(spec: str, labels: LabelSet | None = None) -> Source:
    return load_data(spec, labels or load_label_set(default_labels(spec)))


# MS-COCO


def instances(images: dict[int, str], annotations: list[tuple[int, int]]) -> dict[str, Any]:
    """The object of an instances_*.json, outlines and all."""
    return {
        "info": {"year": 2014},
        "licenses": [{"id": 1, "name": "CC"}],
        "images": [
            {"license": 1, "file_name": name, "height": 8, "width": 8, "id": image} for image, name in images.items()
        ],
        "annotations": [
            {
                "segmentation": [[1.5, 2.5, 3.25, 4.0, 2.0, 1.0]] if number % 2 else {"counts": [3, 5], "size": [8, 8]},
                "area": 12.5, "iscrowd": 1 - number % 2, "image_id": image, "bbox": [1.0, 2.0, 3.0, 4.0],
                "category_id": category, "id": 900 + number,
            }
            for number, (image, category) in enumerate(annotations)
        ],
        "categories": [
            {"supercategory": "animal", "id": 18, "name": "dog"},
            {"supercategory": "indoor", "id": 90, "name": "toothbrush"},
            {"supercategory": "vehicle", "id": 2, "name": "bicycle"},
        ],
    }  # fmt: skip


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_photos(tmp_path / "train2014", "COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg", "c.jpg")
    write_photos(tmp_path / "val2014", "COCO_val2014_000000000042.jpg")
    training = instances(
        {25: "COCO_train2014_000000000025.jpg", 9: "COCO_train2014_000000000009.jpg", 30: "c.jpg"},
        [(9, 18), (9, 18), (9, 90), (25, 2)],
    )
    held_out = instances({42: "COCO_val2014_000000000042.jpg"}, [(42, 18)])
    for name, content in (("train", training), ("val", held_out)):
        write(tmp_path / f"annotations/instances_{name}2014.json", json.dumps(content))
    return tmp_path


def test_coco_labels_are_the_categories_of_the_instances(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load(f"coco:{coco}")
    assert as_dict(source.training) == {
        "COCO_train2014_000000000009.jpg": {"dog", "toothbrush"},
        "COCO_train2014_000000000025.jpg": {"bicycle"},
    }
    assert as_dict(source.held_out) == {"COCO_val2014_000000000042.jpg": {"dog"}}
    assert "train2014: 2 photos; skipped: 1 photos without a label" in capsys.readouterr().err


def test_coco_without_its_test_split_holds_out_a_share(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (coco / "annotations/instances_val2014.json").unlink()
    training, held_out = load(f"coco:{coco}").split(0.5, seed=0)
    assert (len(training), len(held_out)) == (1, 1)
    assert "instances_val2014.json does not exist" in capsys.readouterr().err


def test_a_share_is_refused_where_the_dataset_has_a_split(coco: Path) -> None:
    with pytest.raises(UsageError, match=r"--held-out 0.5: has no effect on MS-COCO train2014, which has test photos"):
        load(f"coco:{coco}").split(0.5, seed=0)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["annotations"][1].update(category_id=7), "annotation 1 has the category_id 7, which is not among"),
        (lambda c: c["annotations"][2].update(image_id=77), "annotation 2 has the image_id 77, which is not among"),
        (lambda c: c["annotations"][0].pop("category_id"), r"required field `category_id` - at `\$.annotations\[0\]`"),
        (lambda c: c["images"][1].update(file_name="gone.jpg"), r"1 of its photos are not in .*train2014: gone\.jpg"),
        (lambda c: c["images"][0].update(file_name="../../etc/x.jpg"), "leads out of the folder"),
        (lambda c: c["images"][0].update(file_name="/etc/x.jpg"), "leads out of the folder"),
        (lambda c: c["images"][0].update(id="9"), "an image's id or file_name twice"),
        (lambda c: c["images"][0].update(id=9.5), r"json: images\[0\]\.id is 9\.5, not a whole number"),
        (lambda c: c["annotations"][1].update(category_id=None), r"annotations\[1\]\.category_id is null, not a whole"),
        (lambda c: c["annotations"][1].update(image_id=True), r"annotations\[1\]\.image_id is true, not a whole"),
        (lambda c: c["annotations"][1].update(image_id="\n" * 99), r"has the image_id (\\n){40}, which is not among"),
        (
            lambda c: c["images"][1].update(file_name="x" * 5000),
            r"photos are not in .*train2014: x+…x+\.",
        ),
        (lambda c: c["images"][1].update(file_name="../" + "x" * 5000), r"the name '../x+…x+' leads out"),
        (lambda c: c["categories"][1].update(id="18.0"), "a category's id twice"),
        (lambda c: c["images"][1].pop("file_name"), "image 9 has neither a file_name nor a coco_url"),
        (lambda c: c["images"][0].update(file_name="..\\..\\x.jpg"), "leads out of the folder"),
        (lambda c: c["images"][0].update(file_name="C:\\data\\x.jpg"), "leads out of the folder"),
        (
            lambda c: c["annotations"][1].update(image_id=2.0**70),
            r"image_id is 1\.18\S+e\+21, not a whole number \(",
        ),
        (
            lambda c: c["annotations"][1].update(area=float("nan")),
            "json, line 1: has NaN, which is no JSON; write",
        ),
        (lambda c: c["annotations"][1].update(bbox=[0, -float("inf")]), "has -Infinity, which is no JSON"),
        (lambda c: c["images"][0].update(id=9), "an image's id or file_name twice"),
        (lambda c: c.pop("categories"), "required field `categories`"),
        (lambda c: c.update(images={"9": "a.jpg"}), r"Expected `array`, got `object` - at `\$.images`"),
        (lambda c: c.update(annotations=[]), "no photo with a label is left"),
    ],
)
def test_invalid_coco_annotations_are_refused(coco: Path, change: Callable[[Any], Any], sentence: str) -> None:
    edit(coco / "annotations/instances_train2014.json", change)
    with pytest.raises(UsageError, match=sentence):
        load(f"coco:{coco}")


def spellings(number: int) -> st.SearchStrategy[str]:
    """An integer as exporters write it, as JSON."""
    exact = [f"{number}.0", f"{number}e0", f"{10 * number}E-1", f'"{number}.0"'] if abs(number) <= 2**53 else []
    return st.sampled_from([f"{number}", f'"{number}"', f'" {number}"', f'"{number:012d}"', *exact])


def write_instances(path: Path, content: Any) -> None:
    """Write JSON; texts such as "<1e0>" become the number between the signs."""
    write(path, re.sub(r'"<(.*?)>"', lambda found: found[1].replace('\\"', '"'), json.dumps(content)))


IDS = st.integers(-(10**6), 10**6) | st.integers(-(10**25), 10**25) | st.sampled_from([0, 2**53, -(2**53)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_spelling_of_coco_ids_gives_the_labels_of_the_integers(coco: Path, data: st.DataObject) -> None:
    names = ["c.jpg", "COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg"]
    images = data.draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
    categories = data.draw(st.lists(IDS, min_size=3, max_size=3, unique=True))
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(images), st.sampled_from(categories)), min_size=1, max_size=6))
    content = instances(dict(zip(images, names, strict=False)), pairs)
    for category, id_ in zip(content["categories"], categories, strict=True):
        category["id"] = id_
    path = coco / "annotations/instances_train2014.json"
    write_instances(path, content)
    expected = as_dict(load(f"coco:{coco}").training)
    assert sum(map(len, expected.values())) == len(set(pairs))
    for field in ("images", "annotations", "categories"):
        for row in content[field]:
            for key in row.keys() & {"id", "image_id", "category_id"}:
                row[key] = f"<{data.draw(spellings(row[key]))}>"
    write_instances(path, content)
    assert as_dict(load(f"coco:{coco}").training) == expected


@pytest.mark.parametrize("number", ["1e999999999", "-1e-999999999", "1.5", "9007199254740993.0", "1e16", "9" * 5000])
def test_a_number_that_is_no_exact_id_is_refused(coco: Path, number: str) -> None:
    content = instances({1: "c.jpg"}, [(1, 18)])
    content["annotations"][0]["image_id"] = f"<{number}>"
    write_instances(coco / "annotations/instances_train2014.json", content)
    with pytest.raises(UsageError, match=rf"annotations\[0\]\.image_id is {number[:40]}, not a whole number"):
        load(f"coco:{coco}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda value: st.lists(value, max_size=2) | st.dictionaries(st.text(max_size=3), value, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_json_in_place_of_a_coco_value_gives_labels_or_a_refusal(coco: Path, data: st.DataObject) -> None:
    images = {25: "COCO_train2014_000000000025.jpg", 30: "c.jpg"}
    content: Any = instances(images, [(25, 18), (25, 90), (30, 2)])
    expected = {"COCO_train2014_000000000025.jpg": {"dog", "toothbrush"}, "c.jpg": {"bicycle"}}
    field = data.draw(st.sampled_from(["info", "images", "annotations", "categories"]))
    holder, key = content, field
    if field != "info" and data.draw(st.integers(0, 4)):
        holder = data.draw(st.sampled_from(content[field]))
        key = data.draw(st.sampled_from(sorted(holder)))
    before = holder[key]
    holder[key] = data.draw(JSON)
    write_instances(coco / "annotations/instances_train2014.json", content)
    try:
        found = as_dict(load(f"coco:{coco}").training)
    except UsageError as error:
        assert str(error).startswith(str(coco)) or "no photo with a label" in str(error)  # noqa: PT017
        return
    read = ("id", "file_name", "name", "supercategory", "image_id", "category_id")
    assert found == expected or (key in read and type(holder[key]) in (int, float, str, list) and holder[key] != before)


def test_coco_ids_of_any_text(coco: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = f"img-{image['id']}"
        for annotation in content["annotations"]:
            annotation["image_id"] = f"img-{annotation['image_id']}"

    expected = as_dict(load(f"coco:{coco}").training)
    edit(coco / "annotations/instances_train2014.json", rename)
    assert as_dict(load(f"coco:{coco}").training) == expected


def test_coco_names_are_found_in_any_spelling(coco: Path) -> None:
    write_photos(coco / "train2014", "sub/" + unicodedata.normalize("NFD", "Zürich.jpg"), "linked.jpg")
    (coco / "elsewhere").mkdir()
    write_photos(coco / "elsewhere", "d.jpg")
    (coco / "train2014/more").symlink_to("../elsewhere")
    (coco / "train2014/again").symlink_to("../elsewhere")
    names = {1: "sub\\Zürich.jpg", 2: "more/d.jpg", 3: "train2014/c.jpg"}
    content = instances(names, [(1, 18), (2, 18), (3, 2)])
    path = write(coco / "annotations/instances_train2014.json", "\ufeff" + json.dumps(content))
    found = as_dict(load(f"coco:{coco}").training)
    assert {unicodedata.normalize("NFC", name): labels for name, labels in found.items()} == {
        "Zürich.jpg": {"dog"}, "d.jpg": {"dog"}, "c.jpg": {"bicycle"},
    }  # fmt: skip
    write(path, json.dumps(instances({1: "c.jpg", 2: "./c.jpg", 3: "more\\d.jpg", 4: "more/d.jpg"}, [(3, 2), (4, 2)])))
    with pytest.raises(UsageError, match="twice"):
        load(f"coco:{coco}")


def test_lvis_names_photos_by_their_address(tmp_path: Path) -> None:
    write_photos(tmp_path, "train2017/1.jpg", "val2017/2.jpg", "val2017/3.jpg")
    for split, images in (("train", [1]), ("val", [2, 1])):
        content = instances({}, [(image, 18) for image in images])
        content["images"] = [
            {"id": n, "coco_url": f"http://images.cocodataset.org/{'train' if n == 1 else 'val'}2017/{n}.jpg"}
            for n in images
        ]
        write(tmp_path / f"annotations/lvis_v1_{split}.json", json.dumps(content))
    source = load(f"coco:{tmp_path}")
    assert as_dict(source.training) == {"1.jpg": {"dog"}}
    assert as_dict(source.held_out) == {"1.jpg": {"dog"}, "2.jpg": {"dog"}}


@pytest.mark.parametrize("held_out", ["test", "valid", ""])
def test_roboflow_without_its_root_category(tmp_path: Path, held_out: str, capsys: pytest.CaptureFixture[str]) -> None:
    for split in filter(None, ("train", held_out)):
        write_photos(tmp_path / split, "a_jpg.rf.1.jpg", "b_jpg.rf.2.jpg")
        content = instances({0: "a_jpg.rf.1.jpg", 1: "b_jpg.rf.2.jpg"}, [(0, 1), (1, 0), (1, 2)])
        content["categories"] = [
            {"id": 0, "name": "pets", "supercategory": "none"},
            {"id": 1, "name": "dog", "supercategory": "pets"},
            {"id": 2, "name": "cat", "supercategory": "pets"},
        ]
        write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
    source = load(f"coco:{tmp_path}")
    assert as_dict(source.training) == {"a_jpg.rf.1.jpg": {"dog"}, "b_jpg.rf.2.jpg": {"cat"}}
    assert (source.held_out is not None) == bool(held_out)
    assert "1 annotations of the root category" in capsys.readouterr().err
    with pytest.raises(UsageError, match="use --data coco:"):
        load(str(tmp_path))


def test_a_roboflow_class_named_none_is_no_root_category(tmp_path: Path) -> None:
    write_photos(tmp_path / "train", "a.jpg", "b.jpg")
    content = instances({0: "a.jpg", 1: "b.jpg"}, [(0, 0), (1, 1)])
    content["categories"] = [
        {"id": number, "name": name, "supercategory": "none"} for number, name in enumerate(("none", "dog"))
    ]
    write(tmp_path / "train/_annotations.coco.json", json.dumps(content))
    assert as_dict(load(f"coco:{tmp_path}").training) == {"a.jpg": {"none"}, "b.jpg": {"dog"}}


@pytest.mark.parametrize("content", ["truncated", "[" * 100_000, "[]", "\x00"])
def test_invalid_coco_json_is_refused(coco: Path, content: str) -> None:
    path = coco / "annotations/instances_train2014.json"
    path.write_text(path.read_text()[:-40] if content == "truncated" else content)
    with pytest.raises(UsageError, match=r"instances_train2014\.json: (is not JSON|Expected `object`)"):
        load(f"coco:{coco}")


def test_missing_coco_folders_are_reported(coco: Path) -> None:
    for photo in (coco / "val2014").iterdir():
        photo.unlink()
    (coco / "val2014").rmdir()
    with pytest.raises(UsageError, match="val2014: no such folder"):
        load(f"coco:{coco}")
    with pytest.raises(UsageError, match=r"train2014: expected one of annotations/instances_train2014\.json, .* in it"):
        load(f"coco:{coco}/train2014")
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        load(f"coco:{coco}/nowhere")


# NUS-WIDE

CONCEPTS = load_label_set("nuswide81").labels
TRAIN = ["actor\\0001_2124494179.jpg", "sky\\0002_1.jpg", "sky\\0003_gone.jpg"]
TEST = ["zoo\\0004_2.jpg", "zoo\\0005_3.jpg"]


@pytest.fixture(params=["TrainTestLabels", "AllLabels"])
def nuswide(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write_photos(tmp_path / "Flickr", "actor/0001_2124494179.jpg", "sky/0002_1.jpg", "zoo/0004_2.jpg", "zoo/0005_3.jpg")
    for name, listed in (("Train", TRAIN), ("Test", TEST), ("", [TEST[0], *TRAIN, TEST[1]])):
        write(tmp_path / f"ImageList/{name}Imagelist.txt", *listed)
    write(tmp_path / "ConceptsList/Concepts81.txt", *CONCEPTS)
    labels = {"sky": {TRAIN[0], TRAIN[2], TEST[0]}, "zebra": {TEST[0]}, "airport": {TRAIN[0]}}
    for concept in CONCEPTS:
        for name, listed in (("_Train", TRAIN), ("_Test", TEST), ("", [TEST[0], *TRAIN, TEST[1]])):
            if bool(name) == (request.param == "TrainTestLabels"):
                values = ["1" if photo in labels.get(concept, ()) else "0" for photo in listed]
                write(tmp_path / f"Groundtruth/{request.param}/Labels_{concept}{name}.txt", *values)
    return tmp_path


def labels_file(root: Path, concept: str) -> Path:
    return next(iter(sorted((root / "Groundtruth").rglob(f"Labels_{concept}*.txt"))))


def test_nuswide_in_both_layouts(nuswide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load(f"nuswide:{nuswide}")
    assert as_dict(source.training) == {"0001_2124494179.jpg": {"sky", "airport"}}
    assert as_dict(source.held_out) == {"0004_2.jpg": {"sky", "zebra"}}
    logged = capsys.readouterr().err
    assert "NUS-WIDE Train: 1 photos; skipped: 1 of the list's photos not in" in logged
    assert "NUS-WIDE Test: 1 photos; skipped: 1 photos without a label" in logged


def test_nuswide_lists_and_targets_of_different_length_are_refused(nuswide: Path) -> None:
    with labels_file(nuswide, "sky").open("a") as file:
        file.write("0\n")
    with pytest.raises(UsageError, match=r"Labels_sky.*lines, but .*magelist\.txt lists . photos"):
        load(f"nuswide:{nuswide}")


@pytest.mark.parametrize(
    ("name", "lines", "sentence"),
    [
        ("ImageList/TrainImagelist.txt", ["..\\..\\x.jpg", *TRAIN[1:]], "leads out of the folder"),
        ("ConceptsList/Concepts81.txt", ["sky", "sky"], "lists none, one twice"),
        ("ConceptsList/Concepts81.txt", [], "lists none, one twice"),
        ("ConceptsList/Concepts81.txt", ["../../passwd"], "leads out of the folder"),
        ("ConceptsList/Concepts81.txt", ["unicorn"], "no targets found; expected .*Labels_unicorn"),
    ],
)
def test_invalid_nuswide_lists_are_refused(nuswide: Path, name: str, lines: list[str], sentence: str) -> None:
    write(nuswide / name, *lines)
    with pytest.raises(UsageError, match=sentence):
        load(f"nuswide:{nuswide}")


def test_invalid_nuswide_files_are_refused(nuswide: Path) -> None:
    path = labels_file(nuswide, "zebra")
    path.write_text(path.read_text().replace("0\n", "2\n", 1))
    with pytest.raises(UsageError, match="found '2'; expected a line of 0 or 1"):
        load(f"nuswide:{nuswide}")
    path.write_bytes(b"0\n\xff\n0\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(f"nuswide:{nuswide}")
    path.unlink()
    with pytest.raises(UsageError, match=r"Labels_zebra.*cannot be read"):
        load(f"nuswide:{nuswide}")
    (nuswide / "ImageList/TrainImagelist.txt").unlink()
    with pytest.raises(UsageError, match=r"no ImageList/TrainImagelist\.txt|Labels_zebra.*cannot be read"):
        load(f"nuswide:{nuswide}")


# Pascal VOC


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit/VOC2007"
    write_photos(root / "JPEGImages", "000005.jpg", "000007.jpg", "000009.jpg", "000001.jpg")
    main = root / "ImageSets/Main"
    write(main / "trainval.txt", "000005", "000007", "000009")
    write(main / "test.txt", "000001")
    for name in load_label_set("voc20").labels:
        values = {"dog": ["-1", " 1", " 0"], "car": ["-1", " 1", "-1"]}.get(name, ["-1"] * 3)
        write(
            main / f"{name}_trainval.txt",
            *(f"{n} {v}" for n, v in zip(("000005", "000007", "000009"), values, strict=True)),
        )
        write(main / f"{name}_test.txt", f"000001 {' 1' if name == 'sofa' else '-1'}")
    return tmp_path


@pytest.mark.parametrize("below", ["", "VOCdevkit/VOC2007"])
def test_voc_labels_are_those_of_the_classification_task(
    voc: Path, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load(f"voc:{voc / below}")
    assert as_dict(source.training) == {"000007.jpg": {"dog", "car"}}
    assert as_dict(source.held_out) == {"000001.jpg": {"sofa"}}
    logged = capsys.readouterr().err
    assert (
        "VOC2007 trainval: 1 photos; skipped: 1 labels of difficult instances only, 2 photos without a label" in logged
    )


@pytest.mark.parametrize("beside", [True, False])
def test_voc2012_beside_or_instead_of_2007(voc: Path, beside: bool, tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit"
    write_photos(root / "VOC2012/JPEGImages", "2008_000002.jpg", "2008_000003.jpg")
    write(root / "VOC2012/ImageSets/Main/trainval.txt", "2008_000002", "2008_000003")
    write(root / "VOC2012/ImageSets/Main/test.txt", "2008_000001")
    write(root / "VOC2012/ImageSets/Main/cat_trainval.txt", "2008_000002  1", "2008_000003 -1")
    if not beside:
        shutil.rmtree(root / "VOC2007")
    source = load(f"voc:{tmp_path}")
    assert as_dict(source.training) == {"2008_000002.jpg": {"cat"}} | ({"000007.jpg": {"dog", "car"}} if beside else {})
    assert (source.held_out is not None) == beside
    assert len(load(f"voc:{root / 'VOC2012'}").training) == 1
    (tmp_path / "VOC2012").symlink_to("VOCdevkit/VOC2012")  # the same photos
    assert as_dict(load(f"voc:{tmp_path}").training) == as_dict(source.training)
    assert len(load(f"voc:{tmp_path}").training) == len(source.training)


@pytest.mark.parametrize(
    ("name", "lines", "sentence"),
    [
        ("dog_trainval.txt", ["000005 -1", "000007 1"], r"its 2 photos are not the 3 of trainval\.txt"),
        ("dog_trainval.txt", ["000007 -1", "000005 1", "000009 1"], r"its 3 photos are not the 3 of trainval\.txt"),
        ("dog_trainval.txt", ["000005 yes"], "found '000005 yes'"),
        ("trainval.txt", ["000005", "000005"], "found a photo twice"),
        ("trainval.txt", ["../000005"], "leads out of the folder"),
    ],
)
def test_invalid_voc_lists_are_refused(voc: Path, name: str, lines: list[str], sentence: str) -> None:
    write(voc / "VOCdevkit/VOC2007/ImageSets/Main" / name, *lines)
    with pytest.raises(UsageError, match=sentence):
        load(f"voc:{voc}")


def test_missing_voc_files_are_named(voc: Path) -> None:
    (voc / "VOCdevkit/VOC2007/JPEGImages/000007.jpg").unlink()
    with pytest.raises(UsageError, match=r"trainval\.txt: 1 of its photos are not in .*JPEGImages: 000007"):
        load(f"voc:{voc}")
    with pytest.raises(UsageError, match="no ImageSets/Main"):
        load(f"voc:{voc}/nowhere")


# Open Images

PETS = LabelSet("pets", ("dog", "stop sign", "yak"), ("dog.n.01", "street_sign.n.01", "yak.n.01"))
HEADER = "ImageID,Source,LabelName,Confidence"
ROWS = (
    "000026e7ee790996,verification,/m/0bt9lr,1", "000026e7ee790996,verification,/m/02pv19,0",
    "000062a39995e348,machine,/m/02pv19,0.7", "000062a39995e348,machine,/m/0bt9lr,0.4",
    "000062a39995e348,machine,/m/07j7r,0.9", "000gone000000000,verification,/m/0bt9lr,1",
)  # fmt: skip


@pytest.fixture
def open_images(tmp_path: Path) -> Path:
    write_photos(tmp_path, "train/000026e7ee790996.jpg", "train/000062a39995e348.jpg", "train/0000aaaa.jpg")
    write_photos(tmp_path, "test/000c4d66ce89aa69.jpg")
    write(tmp_path / "oidv7-class-descriptions.csv", "LabelName,DisplayName", "/m/0bt9lr,Dog", "/m/02pv19,Stop sign",
          '/m/07j7r,"Tree, tall"')  # fmt: skip
    write(tmp_path / "oidv7-train-annotations-human-imagelabels.csv", HEADER, *ROWS)
    write(tmp_path / "test-annotations-human-imagelabels.csv", HEADER, "000c4d66ce89aa69,verification,/m/0bt9lr,1")
    return tmp_path


def test_open_images_labels_by_name_and_confidence(open_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load(f"openimages:{open_images}", PETS)
    assert as_dict(source.training) == {"000026e7ee790996.jpg": {"dog"}, "000062a39995e348.jpg": {"stop sign"}}
    assert as_dict(source.held_out) == {"000c4d66ce89aa69.jpg": {"dog"}}
    logged = capsys.readouterr().err
    assert "has no class for 1 labels: yak" in logged
    for reason in (
        "2 rows with a confidence below 0.5", "1 rows of classes that are not in the label set",
        "1 rows of photos not in", "1 photos without a label",
    ):  # fmt: skip
        assert reason in logged


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("000026e7ee790996,verification,/m/unknown,1", "line 2: class '/m/unknown' has no description"),
        ("000026e7ee790996,verification,/m/0bt9lr", "line 2: 3 columns, but its header has 4"),
        ("000026e7ee790996,verification,/m/0bt9lr,often", "the confidence 'often' is not a number from 0 to 1"),
        ("000026e7ee790996,verification,/m/0bt9lr,nan", "the confidence 'nan' is not a number from 0 to 1"),
        ('000026e7ee790996,verification,"/m/0bt9lr', "not a CSV file"),
        ("x" * 200_000, "not a CSV file"),
    ],
)
def test_invalid_open_images_rows_are_refused(open_images: Path, line: str, sentence: str) -> None:
    path = write(open_images / "oidv7-train-annotations-human-imagelabels.csv", HEADER, line)
    with pytest.raises(UsageError, match=sentence) as refusal:
        load(f"openimages:{open_images}", PETS)
    assert str(refusal.value).startswith(str(path))


def test_two_photos_of_one_open_images_id_are_refused(open_images: Path) -> None:
    write_photos(open_images, "train/more/000026e7ee790996.png")
    with pytest.raises(UsageError, match="are both named by 000026e7ee790996; keep one"):
        load(f"openimages:{open_images}", PETS)


def test_invalid_open_images_folders_are_refused(open_images: Path) -> None:
    write(open_images / "train-annotations-machine-imagelabels.csv", HEADER)
    with pytest.raises(UsageError, match=r"expected one file .*, found oidv7-train.*, train-annotations-machine"):
        load(f"openimages:{open_images}", PETS)
    (open_images / "train-annotations-machine-imagelabels.csv").unlink()
    write(open_images / "oidv7-train-annotations-human-imagelabels.csv", "ImageID,LabelName")
    with pytest.raises(UsageError, match="no column Confidence"):
        load(f"openimages:{open_images}", PETS)
    with pytest.raises(UsageError, match="no class has the name of a label of voc20"):
        load(f"openimages:{open_images}", LabelSet("voc20", ("sofa",), ("sofa.n.01",)))
    with pytest.raises(UsageError, match="choose one with --labels"):
        load(f"openimages:{open_images}")


# The value of --data


def test_a_path_alone_is_a_labelled_folder(tmp_path: Path) -> None:
    write_photos(tmp_path, "photos:1/a.jpg")
    write(tmp_path / "photos:1/labels.json", '{"a.jpg": ["dog"]}')
    for spec in (f"{tmp_path}/photos:1", f"folder:{tmp_path}/photos:1"):
        source = load(spec)
        assert as_dict(source.training) == {"a.jpg": {"dog"}}
        assert source.held_out is None


def test_a_dataset_given_as_a_folder_is_recognized(coco: Path) -> None:
    with pytest.raises(UsageError, match=rf"use --data coco:{coco}"):
        load(str(coco))


def test_an_unknown_format_is_reported(coco: Path) -> None:
    with pytest.raises(UsageError, match="'mscoco' is not a format; expected one of folder, coco, nuswide, voc"):
        load(f"mscoco:{coco}")
