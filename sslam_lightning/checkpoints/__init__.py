"""Other people's names for our weights: rename tables and nothing else. No pickle is ever executed."""

from sslam_lightning.checkpoints.fairseq import from_fairseq
from sslam_lightning.checkpoints.mae_ast import from_mae_ast
from sslam_lightning.checkpoints.read import load_strictly, read_weights
from sslam_lightning.checkpoints.weights import Weights

__all__ = ["Weights", "from_fairseq", "from_mae_ast", "load_strictly", "read_weights"]
