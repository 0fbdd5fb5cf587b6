"""``sslam convert``."""

from __future__ import annotations

from typing import Literal


def run_convert(
    source: str,
    target: str,
    to: Literal["safetensors", "eat_hf", "fairseq", "transformers"] = "safetensors",
    part: Literal["student", "teacher"] | None = None,
) -> None:
    """Write a checkpoint in another form; its weights keep every bit, and nothing in it is executed.

    Args:
        source: fairseq's .pt file of an EAT or SSLAM, a .ckpt file of this project, a folder in the Hugging Face layout of
            the released models or in the shared form (config.json and model.safetensors), or a Hub id
            (ta012/SSLAM_pretrain, or owner/name@revision; needs sslam-lightning[hub]).
        target: where to write: a folder, or with ``--to fairseq`` a file. Nothing may be there yet.
        to: safetensors keeps everything in safetensors and JSON; eat_hf is the layout of the released models (an encoder
            and a head on the CLS token); fairseq is a .pt file under the public code's names; transformers is the folder
            of a model of Hugging Face transformers that was trained by data2vec 1.0.
        part: keep only this encoder of a pre-trained model. By default both, or the student where a form holds one.
    """
    from sslam_lightning.checkpoints import convert

    done = convert(source, target, to, part)
    print(f"wrote {done.target}")
    if done.left_out:
        print(f"left out, the form {to} has no place for it: {', '.join(done.left_out)}")
    if done.unused:
        print(f"not used, no part of a model has such keys: {', '.join(done.unused)}")
