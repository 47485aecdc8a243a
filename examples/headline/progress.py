"""Progress on stderr, a JSON file that is there whole or not at all, and the versions that made it.

PyTorch is imported where it is used: tables and pictures do without.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import torch

_last = [0.0]


def say(line: str, every: float = 0.0) -> None:
    """Prints a line to stderr; one with `every` only if so many seconds have passed since the last."""
    now = time.monotonic()
    if now - _last[0] >= every:
        _last[0] = now
        print(line, file=sys.stderr, flush=True)


def write_json(path: Path, value: Any) -> None:
    """Compressed if the name ends in `.gz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    text = (json.dumps(value, separators=(",", ":")) + "\n").encode()
    part.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    os.replace(part, path)


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    try:
        text = path.read_bytes()
        return json.loads(gzip.decompress(text) if path.suffix == ".gz" else text)
    except (OSError, ValueError) as error:
        raise InputError(f"expected a JSON file, found {str(path)!r}: {error}") from None


def save_state(path: Path, value: Any) -> None:
    """What a run needs to go on; read with `load_state`."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    torch.save(value, part)
    os.replace(part, path)


def load_state(path: Path, device: torch.device) -> Any:
    import torch

    return torch.load(path, map_location=device, weights_only=False)


def versions(device: torch.device) -> dict[str, str]:
    import numpy as np
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "device": name}
