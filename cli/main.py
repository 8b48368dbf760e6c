"""`mlzsl NAME …`: every installed command `mlzsl-NAME` under one roof."""

import importlib.metadata

import click

from mlzsl.cli.command import CONTEXT_SETTINGS

PREFIX = "mlzsl-"
IN_ORDER_OF_USE = [
    *("scenes", "fetch", "labels", "train", "experiment", "export", "calibrate", "build"),
    *("verify", "infer", "gallery", "bench"),
]


class _InstalledCommands(click.Group):
    """Finds the commands among the installed console scripts, and imports only the one that is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        names = [script.name.removeprefix(PREFIX) for script in _scripts()]
        return sorted(names, key=lambda name: [*IN_ORDER_OF_USE, name].index(name))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for script in _scripts():
            if script.name == PREFIX + name:
                command: click.Command = script.load()
                return command
        return None


def _scripts() -> list[importlib.metadata.EntryPoint]:
    scripts = importlib.metadata.distribution("mlzsl").entry_points.select(group="console_scripts")
    return [script for script in scripts if script.name.startswith(PREFIX)]


@click.group("mlzsl", cls=_InstalledCommands, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="mlzsl", prog_name="mlzsl")
def main() -> None:
    """Multi-label zero-shot image tagging: train, export, tag.

    The main job, each step taking what the one before has just written:

    \b
      mlzsl train
      mlzsl export --labels coco80
      mlzsl infer images/
    """
