"""The command line: LightningCLI for training, plain functions for tools."""

from __future__ import annotations

import inspect
import io
import os
import shlex
import sys
from pkgutil import resolve_name
from typing import Any

_DATA, _IMPORT, _BENCHMARK = (f"sslam_lightning.cli.{name}:" for name in ("data.commands", "data.imports", "benchmark"))

# Command -> its function, or the commands below it. No function has a public name of `sslam_lightning`: jsonargparse looks
# in the packages above for one of the same name, and would import that, with torch, for the help.
TOOLS: dict[str, Any] = {
    "demo": "sslam_lightning.cli.demo:demo",
    "data": {
        "scan": f"{_DATA}scan",
        "check": f"{_DATA}check",
        "import": {
            "ast": f"{_IMPORT}import_ast",
            "segments": f"{_IMPORT}import_segments",
            "folders": f"{_IMPORT}import_folders",
            "hdf5": f"{_IMPORT}import_hdf5",
            "parquet": f"{_IMPORT}import_parquet",
        },
        "stats": f"{_DATA}stats",
        "pack": f"{_DATA}pack",
    },
    "convert": "sslam_lightning.cli.convert:run_convert",
    "tag": "sslam_lightning.cli.tag:run_tag",
    "embed": "sslam_lightning.cli.embed:run_embed",
    "export": "sslam_lightning.cli.export:export",
    "evaluate": "sslam_lightning.cli.evaluate:run_evaluate",
    "benchmark": {name: f"{_BENCHMARK}benchmark_{name}" for name in ("pretrain", "data", "inference")},
}

# Commands that understand their arguments themselves.
_OTHERS = {"plan": "sslam_lightning.cli.fit.plan:run_plan", "slurm": "sslam_lightning.cli.fit.slurm:run_slurm"}
COMMANDS = ("fit", "validate", "test", "predict", *TOOLS, *_OTHERS)


def run_command(argv: list[str]) -> None:
    """Any command."""
    if argv[0] == "demo":  # before torch: threads that wait spin, and on cores shared with others hold each other up
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if argv[0] in _OTHERS:
        resolve_name(_OTHERS[argv[0]])(argv[1:])
    elif argv[0] in TOOLS:
        run_tool(argv)
    else:
        run_trainer(argv)


def run_trainer(argv: list[str]) -> None:
    """``fit``, ``validate``, ``test`` and ``predict``."""
    from sslam_lightning.cli.fit.trainer import SSLAMCLI

    SSLAMCLI(args=argv)


def run_tool(argv: list[str]) -> Any:
    """A command of `TOOLS`; torch is not imported before its arguments are understood."""
    from sslam_lightning.cli.parser import OneLineParser, tool_parser

    tool, prog, words = TOOLS, "sslam", list(argv)
    while isinstance(tool, dict):
        if not words or words[0] in ("-h", "--help"):
            _list_commands(prog, tool)
            sys.exit(0 if words else 2)
        if words[0] not in tool:
            raise ValueError(f"there is no command {words[0]}, only {', '.join(tool)} (see {prog} --help)")
        tool, prog = tool[words[0]], f"{prog} {words.pop(0)}"
    tool = resolve_name(tool)
    OneLineParser.begin(prog, words)
    options = tool_parser(tool, prog).parse_args(words).as_dict()
    if "command" in inspect.signature(tool).parameters:
        options["command"] = shlex.join(["sslam", *argv])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
    try:
        return tool(**options)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _list_commands(prog: str, tools: dict[str, Any]) -> None:
    print(f"usage: {prog} COMMAND ...\n")
    for name, tool in tools.items():
        about = ", ".join(tool) if isinstance(tool, dict) else (inspect.getdoc(resolve_name(tool)) or "").splitlines()[0]
        print(f"  {name:<10} {about}")
    print(f"\nOptions of a command: {prog} COMMAND --help")
