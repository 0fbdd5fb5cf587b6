"""Pre-training, fine-tuning and sound event detection as LightningModules."""

from sslam_lightning.training.detection import DetectionModule
from sslam_lightning.training.finetune import FinetuneModule
from sslam_lightning.training.mae_ast import MAEASTModule
from sslam_lightning.training.pretrain import PretrainModule

__all__ = ["DetectionModule", "FinetuneModule", "MAEASTModule", "PretrainModule"]
