"""Sounds in time: from events to frames, from frames to events, and how well the two agree."""

from sslam_lightning.events.activity import Activity, FrameActivity, join_clips
from sslam_lightning.events.decoding import EventDecoding
from sslam_lightning.events.frames import frame_labels, frames_to_events
from sslam_lightning.events.scores import Collars, EventScores, event_scores

__all__ = [
    "Activity",
    "Collars",
    "EventDecoding",
    "EventScores",
    "FrameActivity",
    "event_scores",
    "frame_labels",
    "frames_to_events",
    "join_clips",
]
