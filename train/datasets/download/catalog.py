"""The catalogue of `mlzsl-fetch`: URLs, sizes, checksums and licences.

Sizes and SHA-256 are published values: for MS-COCO and Open Images V4 those of TensorFlow Datasets (url_checksums/),
for VOC2007 the sizes there and the SHA-256 that torchvision's prototype datasets check at these addresses, for GloVe
those of Embeddings.jl, for WordNet those of nltk_data's package. None marks an unpublished value; `fetch` describes how
such a file is checked.
"""

from dataclasses import dataclass

COCO = "http://images.cocodataset.org"
VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"
NUSWIDE = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide"
OPEN_IMAGES = "https://storage.googleapis.com/openimages/2018_04"
GLOVE = "https://nlp.stanford.edu/data"


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: of the publisher.
        size: in bytes; None if unpublished.
        sha256: 64 hexadecimal digits; None if unpublished.
        unpack: whether it is a zip or tar archive to unpack.
        only: patterns of the members to unpack; all if empty.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    unpack: bool = True
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name, the last part of its URL."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Entry:
    """A dataset, word vectors or a dictionary.

    Attributes:
        title: one line.
        licence: in words.
        licence_url: of the licence or the terms.
        files: to download, in order.
        next_command: the command that uses the download; `{into}` is its folder.
        by_hand: a sentence on what has to be downloaded by hand, or "".
    """

    title: str
    licence: str
    licence_url: str
    files: tuple[RemoteFile, ...]
    next_command: str
    by_hand: str = ""

    @property
    def size(self) -> int | None:
        """Bytes to download; None if a file's size is unpublished."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


CATALOGUE = {
    "coco": Entry(
        title="MS-COCO 2014: 82,783 training and 40,504 validation photos, 80 classes",
        licence="annotations CC BY 4.0; photos from Flickr, each under its owner's terms",
        licence_url="https://cocodataset.org/#termsofuse",
        files=(
            RemoteFile(
                f"{COCO}/annotations/annotations_trainval2014.zip",
                252_872_794,
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                only=("annotations/instances_*2014.json",),
            ),
            RemoteFile(
                f"{COCO}/zips/val2014.zip",
                6_645_013_297,
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            ),
            RemoteFile(
                f"{COCO}/zips/train2014.zip",
                13_510_573_713,
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            ),
        ),
        next_command="mlzsl-train --data coco:{into}",
    ),
    "voc": Entry(
        title="Pascal VOC 2007: 5,011 training and validation photos, 4,952 test photos, 20 classes",
        licence="photos from Flickr, to be used under Flickr's terms",
        licence_url="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        files=(
            RemoteFile(
                f"{VOC}/VOCtrainval_06-Nov-2007.tar",
                460_032_000,
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            RemoteFile(
                f"{VOC}/VOCtest_06-Nov-2007.tar",
                451_020_800,
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
        next_command="mlzsl-train --data voc:{into}",
    ),
    "nuswide": Entry(
        title="NUS-WIDE: image lists, 81 concepts and their targets, without the photos",
        licence="for research, under the agreement of the National University of Singapore; photos from Flickr",
        licence_url=f"{NUSWIDE}/NUS-WIDE.html",
        files=(
            RemoteFile(f"{NUSWIDE}/ConceptsList.zip"),
            RemoteFile(f"{NUSWIDE}/ImageList.zip"),
            RemoteFile(f"{NUSWIDE}/Groundtruth.zip"),
        ),
        next_command="mlzsl-train --data nuswide:{into}",
        by_hand=(
            "The photos are not published: request them from the authors with the signed agreement of the page above, "
            "and put them into {into}/Flickr."
        ),
    ),
    "openimages": Entry(
        title="Open Images V4: image-level labels verified by people, names of 19,995 classes, without the photos",
        licence="annotations CC BY 4.0 by Google; photos listed as CC BY 2.0, to be checked by their user",
        licence_url="https://storage.googleapis.com/openimages/web/factsfigures_v4.html",
        files=(
            RemoteFile(
                f"{OPEN_IMAGES}/class-descriptions.csv",
                475_854,
                "6301d51a91632a2199060d3a0c8cd70904c95863f6867a5a7c4d24a031ee4062",
                unpack=False,
            ),
            RemoteFile(
                f"{OPEN_IMAGES}/validation/validation-annotations-human-imagelabels.csv",
                23_008_122,
                "5373774bcf38e0b6348f14ef97c1f03c8f086761592f97454778f9817e7be765",
                unpack=False,
            ),
            RemoteFile(
                f"{OPEN_IMAGES}/test/test-annotations-human-imagelabels.csv",
                69_570_530,
                "c8ff669500fc6f290d385f21abccbfbb8a69c49d1de8fe285e1c1d84ba2797fa",
                unpack=False,
            ),
            RemoteFile(
                f"{OPEN_IMAGES}/train/train-annotations-human-imagelabels.csv",
                1_229_488_697,
                "847edf723587ab27dc4a95d4acdad45be1880fd45912f7154be9356f3d09f91f",
                unpack=False,
            ),
        ),
        next_command="mlzsl-train --data openimages:{into} --labels my_labels.txt --unseen my_unseen.txt",
        by_hand=(
            "The photos take about 600 GB, so choose: each is "
            "https://open-images-dataset.s3.amazonaws.com/SPLIT/IMAGEID.jpg, with SPLIT train, validation or test. "
            "Put them into {into}/train and {into}/test."
        ),
    ),
    "glove": Entry(
        title="GloVe 6B: vectors of 50 to 300 numbers for 400,000 words",
        licence="Open Data Commons Public Domain Dedication and License (PDDL) 1.0",
        licence_url="https://opendatacommons.org/licenses/pddl/1-0/",
        files=(
            RemoteFile(
                f"{GLOVE}/glove.6B.zip",
                862_182_613,
                "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
            ),
        ),
        next_command="mlzsl-train --embeddings {into}/glove.6B.300d.txt",
    ),
    "glove-840b": Entry(
        title="GloVe 840B: vectors of 300 numbers for 2.2 million words",
        licence="Open Data Commons Public Domain Dedication and License (PDDL) 1.0",
        licence_url="https://opendatacommons.org/licenses/pddl/1-0/",
        files=(
            RemoteFile(
                f"{GLOVE}/glove.840B.300d.zip",
                2_176_768_927,
                "c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f",
            ),
        ),
        next_command="mlzsl-train --embeddings {into}/glove.840B.300d.txt",
    ),
    "wordnet": Entry(
        title="WordNet 3.0 as nltk packs it; only for building graph/data again",
        licence="WordNet 3.0 licence: any use without fee, with its notice kept",
        licence_url="https://wordnet.princeton.edu/license-and-commercial-use",
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/wordnet.zip",
                10_775_600,
                "cbda5ea6eef7f36a97a43d4a75f85e07fccbb4f23657d27b4ccbc93e2646ab59",
            ),
        ),
        next_command="python tools/build_taxonomy.py --wordnet {into}/wordnet",
    ),
}
