"""Checkpoints of any kind, opened, converted and shared as data. No pickle is ever executed.

Whatever is wrong with a file is a ValueError of one line that names the file and the first thing that is wrong; a file
that is not there is a FileNotFoundError.
"""

from sslam_lightning.checkpoints.convert import Converted, convert
from sslam_lightning.checkpoints.formats.bat import from_bat
from sslam_lightning.checkpoints.formats.fairseq import from_fairseq
from sslam_lightning.checkpoints.formats.mae_ast import from_mae_ast
from sslam_lightning.checkpoints.latest import BEST, LAST, Newest, check_resumable, newest_whole_checkpoint, step_of
from sslam_lightning.checkpoints.load import load_classifier, load_encoder, open_encoder
from sslam_lightning.checkpoints.read import check_source, read_model, read_weights
from sslam_lightning.checkpoints.state_dict import check_names_and_shapes, load_state_dict_strict
from sslam_lightning.checkpoints.weights import Weights

__all__ = [
    "BEST",
    "LAST",
    "Converted",
    "Newest",
    "Weights",
    "check_names_and_shapes",
    "check_resumable",
    "check_source",
    "convert",
    "from_bat",
    "from_fairseq",
    "from_mae_ast",
    "load_classifier",
    "load_encoder",
    "load_state_dict_strict",
    "newest_whole_checkpoint",
    "open_encoder",
    "read_model",
    "read_weights",
    "step_of",
]
