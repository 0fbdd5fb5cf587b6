"""A run's configuration as `sslam fit` understands it, for commands that run nothing."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from sslam_lightning.cli.fit.trainer import SSLAMCLI


class SettingsCLI(SSLAMCLI):
    """Understands a run's configuration, refuses what ``sslam fit`` would refuse, and makes nothing of it."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(args=args, run=False)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        for name in ("ckpt_path", "weights_only"):
            parser.add_argument(f"--{name}", default=None, help="Of `sslam fit`; makes no difference here.")

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing is built: there may be neither data nor devices here."""

    def settings(self, *files: str) -> dict[str, Any]:
        """The configuration as plain data; with ``files``, that of the shipped recipes of these names."""
        config = self.config
        if files:
            arguments = [word for name in files for word in ("--config", name)]
            config = self.parser.parse_args(arguments)
        return config.clone().as_dict()
