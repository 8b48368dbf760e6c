"""The cost sheet prints fractions of all pairs of nodes."""

import dataclasses

from rich.console import Console

from mlzsl.export.cost_sheet import CostSheet

SHEET = CostSheet(
    labels=3,
    external_classes=1,
    edges=6,
    computed_nodes=(4, 4, 3),
    backbone=2_000_000,
    unfolded=3_000_000,
    folded=1_000_000,
    file_bytes=10,
    largest_difference=0.0,
)


def printed(sheet: CostSheet) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(sheet.table())
    return capture.get()


def test_a_complete_graph_has_all_pairs() -> None:
    assert "6 (100.0% of all pairs)" in printed(SHEET)
    assert "3 (50.0% of all pairs)" in printed(dataclasses.replace(SHEET, edges=3))


def test_a_single_label_has_no_pairs() -> None:
    lone = dataclasses.replace(SHEET, labels=1, external_classes=0, edges=0)
    assert "0 (0.0% of all pairs)" in printed(lone)
