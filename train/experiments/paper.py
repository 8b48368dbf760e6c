"""Table 1 of the paper (Huang et al. 2020), to stand beside what is measured here."""

MEASURES = ("seen mAP", "seen miAP", "unseen mAP", "unseen miAP")
SETTING = "ResNet-101, 300-d GloVe vectors, seed 42"

# By dataset and system, in percent as printed, in the order of MEASURES.
TABLE_1: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "MS-COCO": {
        "visual-semantic": (58.30, 59.87, 18.60, 28.08),
        "Fast0Tag": (44.60, 60.20, 19.10, 32.90),
        "SKG": (64.02, 64.22, 18.03, 33.68),
        "RGCN": (53.67, 60.43, 18.97, 33.65),
        "RGCN-XL": (34.10, 49.18, 17.32, 35.43),
        "RGCN-PosVAE": (51.54, 57.13, 20.52, 37.14),
    },
    "NUS-WIDE": {
        "visual-semantic": (25.79, 34.64, 12.73, 29.01),
        "Fast0Tag": (25.10, 36.09, 10.41, 34.58),
        "SKG": (22.89, 32.95, 8.89, 33.77),
        "RGCN": (24.95, 31.23, 9.98, 33.61),
        "RGCN-XL": (23.66, 30.95, 9.86, 34.31),
        "RGCN-PosVAE": (24.67, 32.09, 11.09, 36.78),
    },
}


def paper_levels(dataset: str, system: str) -> dict[str, float]:
    """What the paper reports of a system on a dataset of `TABLE_1`, by measure, in [0, 1]; empty if nothing."""
    percents = TABLE_1[dataset].get(system)
    return (
        {}
        if percents is None
        else {name: round(value / 100, 4) for name, value in zip(MEASURES, percents, strict=True)}
    )
