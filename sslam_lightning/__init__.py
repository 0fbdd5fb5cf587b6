"""SSLAM and its family: self-supervised pre-training of audio encoders on PyTorch Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslam_lightning.version import __version__ as __version__

# Every public name, and where it is from. It is imported on first use, so that `import sslam_lightning` takes no torch.
if TYPE_CHECKING:
    from sslam_lightning.checkpoints import convert as convert
    from sslam_lightning.checkpoints import load_classifier as load_classifier
    from sslam_lightning.checkpoints import load_encoder as load_encoder
    from sslam_lightning.data import AudioSetDataModule as AudioSetDataModule
    from sslam_lightning.data import ESC50DataModule as ESC50DataModule
    from sslam_lightning.data import SyntheticDataModule as SyntheticDataModule
    from sslam_lightning.evaluation.run import evaluate as evaluate
    from sslam_lightning.inference import AudioModel as AudioModel
    from sslam_lightning.inference import AudioOutput as AudioOutput
    from sslam_lightning.inference import create_model as create_model
    from sslam_lightning.inference import from_pretrained as from_pretrained
    from sslam_lightning.inference.embed import embed as embed
    from sslam_lightning.inference.tagging.run import tag as tag
    from sslam_lightning.models import Encoder as Encoder
    from sslam_lightning.models import EncoderConfig as EncoderConfig
    from sslam_lightning.models.sizes import list_models as list_models
    from sslam_lightning.training import DetectionModule as DetectionModule
    from sslam_lightning.training import FinetuneModule as FinetuneModule
    from sslam_lightning.training import PretrainModule as PretrainModule
else:  # hidden from type checkers, for which the module would otherwise have any name
    from functools import cache as _cache

    @_cache
    def _modules():
        """Public name -> its module, read from the imports above."""
        import ast

        tree = ast.parse(__loader__.get_source(__name__))
        block = next(node for node in tree.body if isinstance(node, ast.If))
        return {name.asname: node.module for node in block.body for name in node.names}

    def __getattr__(name):
        if name == "__all__":
            return ["__version__", *_modules()]
        if name not in _modules():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_modules()[name]), name)

    def __dir__():
        return sorted({*globals(), *_modules()})
