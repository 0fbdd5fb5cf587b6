"""Other people's names for our weights: rename tables and nothing else. No pickle is ever executed."""

from sslam_lightning.checkpoints.fairseq import from_fairseq
from sslam_lightning.checkpoints.newest import Newest, newest_whole_checkpoint
from sslam_lightning.checkpoints.read import load_strictly, read_content, read_weights
from sslam_lightning.checkpoints.weights import Weights

__all__ = [
    "Newest",
    "Weights",
    "from_fairseq",
    "load_strictly",
    "newest_whole_checkpoint",
    "read_content",
    "read_weights",
]
