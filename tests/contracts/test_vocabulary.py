"""Code, configuration and prose use the field's words: what timm, lightly, data2vec and transformers call a thing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A word of ours that once was, and the field's.
FORBIDDEN = {
    "clip_token": "cls_token",
    "guesses": "predictions",
    "keep_visible": "gather_tokens",
    "put_back": "scatter_tokens",
    "repeat_rows": "repeat_interleave",
    "visible_index": "ids_keep",
    "hidden_index": "ids_masked",
    "LayerTargets": "TeacherTargets",
    "hidden_ratio": "mask_ratio",
    "block_patches": "block_size",
    "warmup_updates": "warmup_steps",
    "max_updates": "max_steps",
    "anneal_updates": "anneal_steps",
    "after_updates": "start_step",
    "CollapseGuard": "CollapseMonitor",
    "LossGuard": "NonFiniteGuard",
    "max_skips_in_a_row": "max_consecutive_skips",
    "norm_order": "norm",
    "pre_released": "pre_data2vec2",
    "divide_by": "bce_reduction",
    "time_share": "time_mask_ratio",
    "mel_share": "freq_mask_ratio",
    "max_broken_share": "max_unreadable_fraction",
    "broken_clips": "unreadable_clips",
    "init_part": "init_encoder",
    "gradient_norm": "train/grad_norm",
    "prediction_variance": "train/pred_std",
    "target_variance": "train/target_std",
    "token_deviation": "train/token_std",
    "Dino": "DINOLoss",
    "Seen": "BlockInput",
    "Readings": "EncoderInput",
    "follow_center": "update_center",
    "moved_center": "updated_center",
    "sit_out": "empty_step",
    "is_unusable": "is_empty",
    "take_over": "load_parts",
    "start_from": "load_pretrained",
    "learning_parts": "trainable_modules",
    "compiled_parts": "modules_to_compile",
    "sharded_parts": "modules_to_shard",
    "keep_place": "save_progress",
    "find_place": "restore_progress",
    "listen_to": "install",
    "to_ours": "import_keys",
    "to_theirs": "export_keys",
    "load_strictly": "load_state_dict_strict",
    "Excerpt": "Segment",
    "Labelled": "LabeledClip",
    "companions": "match_annotations",
    "laid_over": "deep_merge",
    "seen_before": "train_overlap",
    "StandIn": "PickleStub",
    "whole_file": "atomic_write",
    "random_streams": "rng",
    "host_memory": "malloc",
    "faithful": "as published",
    "_corrected": "as_published overlays",
}
# British spelling where torch and transformers spell the American way; "recognised" is libsndfile's.
BRITISH = r"\w*(?:normalis|initialis|optimis|tokenis|neighbour|labelled|colour|behaviour|centre)\w*"
PUBLIC = ("sslam_lightning/checkpoints/", "tests/parity/", "tests/unit/checkpoints/")  # hold the public code's own words


def _texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    files = [name for name in listed if name.endswith((".py", ".yaml", ".md", ".ipynb", ".toml"))]
    files = [name for name in files if name not in ("CHANGELOG.md", f"tests/contracts/{Path(__file__).name}")]
    return {name: (ROOT / name).read_text() for name in files}


TEXTS = _texts()


def test_there_are_files() -> None:
    assert len(TEXTS) > 300


@pytest.mark.parametrize(("word", "instead"), FORBIDDEN.items())
def test_a_word_of_ours_is_not_used(word: str, instead: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])")
    found = [name for name, text in TEXTS.items() if not name.startswith(PUBLIC) and pattern.search(text)]
    assert found == [], f"write {instead}"


def test_spelling_is_american() -> None:
    ours = {name: text for name, text in TEXTS.items() if not name.startswith(PUBLIC)}
    found = {name: words for name, text in ours.items() if (words := set(re.findall(BRITISH, text, re.IGNORECASE)))}
    assert found == {}
