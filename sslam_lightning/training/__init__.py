"""Pre-training and fine-tuning as LightningModules."""

from sslam_lightning.training.data2vec1 import Data2Vec1Module
from sslam_lightning.training.finetune import FinetuneModule
from sslam_lightning.training.mae_ast import MAEASTModule
from sslam_lightning.training.pretrain import PretrainModule

__all__ = ["Data2Vec1Module", "FinetuneModule", "MAEASTModule", "PretrainModule"]
