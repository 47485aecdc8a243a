"""What the sampled attentions of PyTorch and JAX share."""

from __future__ import annotations

import math
from typing import Any

from ._problem import settings_json


def sampled_settings(
    c: float, causal: bool, scale: float | None, seed: int, stream: int, rule: str, sampler: str, words: str = "coord4"
) -> str:
    """The settings of a sampled pass as JSON; the dense pass for an infinite ``c``."""
    settings: dict[str, Any] = {"causal": bool(causal), "scale": scale}
    if math.isinf(c) and c > 0:
        return settings_json({**settings, "pass": "dense"})
    draw = {"pass": "sus", "c": float(c), "seed": seed, "stream": stream, "rule": rule, "sampler": sampler, "layout": words}
    return settings_json({**settings, **draw})
