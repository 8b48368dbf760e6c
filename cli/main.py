"""`mlzsl NAME …`: every command `mlzsl-NAME`, in one group."""

import importlib

import click

from mlzsl.cli.command import Group, group

# Every command in the order of use: the module whose `main` it is, imported only when it is called, and its summary.
COMMANDS = {
    "scenes": ("train.datasets.synthetic.cli", "Draw photos of synthetic scenes with labels."),
    "fetch": ("train.datasets.download.cli", "Download a dataset, word vectors or WordNet."),
    "labels": ("graph.labels.cli", "Show the synset, vector and neighbours of each label of a set."),
    "train": ("train.cli", "Train a model and write its checkpoint."),
    "experiment": ("train.experiments.cli", "Reproduce the paper's table and figures on your data."),
    "export": ("export.cli", "Export a checkpoint for a label set to an ONNX model file."),
    "calibrate": ("calibration.cli", "Convert a model file to fp16, bf16, INT8 or FP8."),
    "build": ("engines.tensorrt.cli", "Compile a model file into a TensorRT plan."),
    "verify": ("runtime.verify.cli", "Check an engine's scores against its model file, and certify it."),
    "thresholds": ("runtime.thresholds.cli", "Choose the threshold of each label on labelled photos."),
    "infer": ("runtime.tagging.cli", "Tag photos."),
    "gallery": ("runtime.gallery.cli", "Make an HTML page or contact sheet of tagged photos."),
    "bench": ("runtime.bench.cli", "Measure the speed of model files on this machine."),
}


class _Commands(Group):
    def summaries(self) -> dict[str, str]:
        return {name: summary for name, (_, summary) in COMMANDS.items()}

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"mlzsl.{COMMANDS[name][0]}").main
        return command


@group("mlzsl", cls=_Commands)
def main() -> None:
    """Multi-label zero-shot image tagging: train, export, tag.

    The main steps, each reading the file that the one before writes:

    \b
      mlzsl train
      mlzsl export --labels coco80
      mlzsl infer images/
    """
