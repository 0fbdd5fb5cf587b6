"""Other people's names for our weights: rename tables and nothing else. No pickle is ever executed."""

from sslam_lightning.checkpoints.fairseq import from_fairseq
from sslam_lightning.checkpoints.load import load_classifier, load_encoder
from sslam_lightning.checkpoints.read import load_strictly, read_weights
from sslam_lightning.checkpoints.weights import Weights

__all__ = ["Weights", "from_fairseq", "load_classifier", "load_encoder", "load_strictly", "read_weights"]
