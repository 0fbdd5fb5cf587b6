"""Sound event detection: fine-tuning with a head on frames, judged by the events that are found."""

from __future__ import annotations

from sslam_lightning.evaluation.finetune import FineTuning
from sslam_lightning.training import DetectionModule


class Detection(FineTuning):
    """The encoder learns with a head on frames (`DetectionModule`), scored by ``event F1``, ``onset F1`` or ``segment F1``.

    The data module has to know its events. With ``model: {frozen_encoder: true}`` the head alone learns.
    """

    module_class = DetectionModule
    metrics = ("event F1", "onset F1", "segment F1")

    def check_metric(self, metric: str) -> None:
        """Refuse a metric that the module does not log."""
        if metric not in self.metrics:
            raise ValueError(
                f"Detection scores by {', '.join(self.metrics)}, not by {metric}: name it in the suite's `without`"
            )

    def score_name(self, metric: str) -> str:
        """As the module logs it."""
        return metric.replace(" ", "_")
