"""What happens around the steps: the teacher's move, guards, and measurements."""

from sslam_lightning.training.callbacks.collapse_monitor import CollapseConfig, CollapseMonitor
from sslam_lightning.training.callbacks.ema_teacher import EMAConfig, EMATeacher
from sslam_lightning.training.callbacks.non_finite_guard import NonFiniteGuard
from sslam_lightning.training.callbacks.online_knn import OnlineKNN
from sslam_lightning.training.callbacks.pictures import Pictures
from sslam_lightning.training.callbacks.prediction_writer import EventWriter, PredictionWriter
from sslam_lightning.training.callbacks.resume import Resume
from sslam_lightning.training.callbacks.run_checkpoint import RunCheckpoint
from sslam_lightning.training.callbacks.save_on_signal import SaveOnSignal
from sslam_lightning.training.callbacks.seed_batches import SeedBatches
from sslam_lightning.training.callbacks.throughput import Throughput
from sslam_lightning.training.callbacks.unreadable_clip_monitor import UnreadableClipMonitor

__all__ = [
    "CollapseConfig",
    "CollapseMonitor",
    "EMAConfig",
    "EMATeacher",
    "EventWriter",
    "NonFiniteGuard",
    "OnlineKNN",
    "Pictures",
    "PredictionWriter",
    "Resume",
    "RunCheckpoint",
    "SaveOnSignal",
    "SeedBatches",
    "Throughput",
    "UnreadableClipMonitor",
]
