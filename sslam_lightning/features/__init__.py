"""From waveforms to spectrograms: batched, and the same on CPU and GPU."""

from sslam_lightning.features.decibels import mel_decibels, scaled_decibels
from sslam_lightning.features.fbank import count_frames, kaldi_fbank
from sslam_lightning.features.log_mels import MAE_AST_LOG_MELS, LogMels

__all__ = ["MAE_AST_LOG_MELS", "LogMels", "count_frames", "kaldi_fbank", "mel_decibels", "scaled_decibels"]
