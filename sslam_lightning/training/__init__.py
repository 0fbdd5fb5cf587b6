"""Pre-training, fine-tuning and sound event detection as LightningModules."""

from sslam_lightning.training.data2vec1 import Data2Vec1Module
from sslam_lightning.training.detection import DetectionModule
from sslam_lightning.training.finetune import FinetuneModule
from sslam_lightning.training.pretrain import PretrainModule

__all__ = ["Data2Vec1Module", "DetectionModule", "FinetuneModule", "PretrainModule"]
