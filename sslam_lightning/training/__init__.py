"""Pre-training, fine-tuning and sound event detection as LightningModules."""

from sslam_lightning.training.modules.data2vec import Data2Vec1Module
from sslam_lightning.training.modules.detection import DetectionModule
from sslam_lightning.training.modules.finetune import FinetuneModule
from sslam_lightning.training.modules.pretrain import PretrainModule

__all__ = ["Data2Vec1Module", "DetectionModule", "FinetuneModule", "PretrainModule"]
