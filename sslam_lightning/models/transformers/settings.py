"""Models of Hugging Face transformers out of settings alone: nothing downloaded, no code run but the library's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What transformers itself comes with. Other names are repositories of compiled code, or fall back to one:
# `flash_attention_2` does where flash-attn is missing.
_BUILT_IN = ("eager", "sdpa", "batched_mm", "grouped_mm")


class TransformersMissing(ImportError):
    """Hugging Face transformers is not installed."""

    for_users = True  # the message says it all


def transformers_library() -> Any:
    """The module ``transformers``, quiet."""
    try:
        import transformers
    except ImportError:
        raise TransformersMissing(
            "encoders of Hugging Face need the package transformers: pip install 'sslam-lightning[transformers]'"
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a ``config.json``; ValueError if it names no model type, or asks for code from elsewhere."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(settings, dict) or not isinstance(settings.get("model_type"), str):
        raise ValueError("its config.json names no model_type")
    return plain_settings(settings)


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, and those of the models inside a model, without ``auto_map``, which names code that comes with them.

    Raises:
        ValueError: if they name an implementation that transformers would fetch, a backbone that it would look up, or a
            class.
    """
    for name, value in settings.items():
        if name.endswith(("_implementation", "_implementation_internal")):
            for chosen in value.values() if isinstance(value, Mapping) else [value]:
                if chosen is not None and chosen not in _BUILT_IN:
                    known = ", ".join(_BUILT_IN)
                    raise ValueError(f"{name} must be one of {known}: others run code of elsewhere, got {chosen}")
        if name in ("class_path", "_class_path"):  # the command line's parser would import it
            raise ValueError(f"no model of transformers has a setting {name}, got {value}")
        if name == "backbone" and value is not None:
            raise ValueError(f"backbone would be looked up on the Hub: describe it in backbone_config, got {value}")
    return {name: _plain(value) for name, value in settings.items() if name != "auto_map"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_settings(value)
    return [_plain(member) for member in value] if isinstance(value, list) else value


def make_config(settings: Mapping[str, Any], **others: Any) -> Any:
    """The configuration that plain settings with a ``model_type`` describe; ``others`` replace some of them."""
    kind = type(transformers_library().AutoConfig.for_model(settings["model_type"]))
    own = {name: value for name, value in settings.items() if name != "model_type"}
    return kind.from_dict(own, **plain_settings(others))


def make_model(config: Any) -> Any:
    return transformers_library().AutoModel.from_config(config, trust_remote_code=False)
