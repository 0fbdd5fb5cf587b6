"""Sound event detection: fine-tuning with a head on frames, judged by the events that are found."""

from __future__ import annotations

from sslam_lightning.evaluation.finetune import FineTuning
from sslam_lightning.evaluation.protocol import Task
from sslam_lightning.models import EncoderConfig
from sslam_lightning.training import DetectionModule


class Detection(FineTuning):
    """The encoder learns with a head on frames (`DetectionModule`), scored by ``event F1``, ``onset F1`` or ``segment F1``.

    The data module has to know its events. With ``model: {frozen_encoder: true}`` the head alone learns.
    """

    module_class = DetectionModule
    of_data = ("num_classes", "class_names", "resampler")  # its classes are always several at once
    metrics = ("event F1", "onset F1", "segment F1")

    def check(self, task: Task) -> None:
        """Refuse the metrics of clips, and encoders whose tokens are no columns of log-mel patches.

        Raises:
            ValueError: naming what came and what is expected.
        """
        if task.metric not in self.metrics:
            raise ValueError(
                f"Detection scores by {', '.join(self.metrics)}, not by {task.metric}: name it in the suite's `without`"
            )
        model = task.model
        transformers = not isinstance(model.encoder.config, EncoderConfig)
        if transformers or model.features is None:
            what = "is a model of transformers" if transformers else "reads waveforms"
            raise ValueError(f"{model.candidate.source} {what}; Detection takes our own encoder, on log-mels")

    def score_name(self, metric: str) -> str:
        """As the module logs it."""
        return metric.replace(" ", "_")
