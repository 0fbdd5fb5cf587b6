from __future__ import annotations

from jaxtyping import install_import_hook

_CHECKED = ("layers", "features", "augment", "masking", "mixing", "objectives", "models", "random_streams", "metrics", "types", "schedules")
install_import_hook([f"sslam_lightning.{name}" for name in _CHECKED], "beartype.beartype")
