"""The command line: LightningCLI for training, plain functions for tools."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Command -> where it is: a function, or a dictionary of functions for commands that have some below them.
TOOLS = {
    "demo": ("sslam_lightning.cli.tools", "demo"),
    "data": ("sslam_lightning.cli.data", "DATA_COMMANDS"),
    "convert": ("sslam_lightning.cli.convert", "convert"),
    "benchmark": ("sslam_lightning.cli.tools", "BENCHMARKS"),
}


def run_trainer(argv: list[str]) -> None:
    """``fit``, ``validate``, ``test`` and ``predict``."""
    from sslam_lightning.cli.trainer import SSLAMCLI

    SSLAMCLI(args=argv)


def run_tool(argv: list[str]) -> Any:
    """A command of `TOOLS`; torch is not imported before its arguments are understood."""
    from jsonargparse import auto_cli

    module, name = TOOLS[argv[0]]
    return auto_cli({argv[0]: getattr(import_module(module), name)}, args=argv, prog="sslam")
