"""Pre-training and fine-tuning as LightningModules."""

from sslam_lightning.training.finetune import FinetuneModule
from sslam_lightning.training.mae_ast import MAEASTModule
from sslam_lightning.training.pretrain import PretrainModule

__all__ = ["FinetuneModule", "MAEASTModule", "PretrainModule"]
