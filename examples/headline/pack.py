"""`pack`: a model's weights as files of a limited size, in bfloat16 or float32; `measure --model FOLDER` reads them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from .checkpoints import load_model
from .errors import InputError


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("headline pack", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--mib", type=float, default=15, help="of a file at most, unless one tensor is larger")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    args = parser.parse_args(words)
    if args.out.exists() and any(args.out.iterdir()):
        raise InputError(f"option 'out': expected a new folder, found files in {str(args.out)!r}")
    args.out.mkdir(parents=True, exist_ok=True)
    config, parameters = load_model(args.model, torch.device("cpu"))
    parts: list[dict[str, torch.Tensor]] = [{}]
    for name, x in parameters.items():
        stored = x.detach().to(getattr(torch, args.dtype))
        if parts[-1] and sum(y.nbytes for y in parts[-1].values()) + stored.nbytes > args.mib * 2**20:
            parts.append({})
        parts[-1][name] = stored
    for number, part in enumerate(parts):
        save_file(part, args.out / f"part-{number}.safetensors", {"headline": json.dumps(asdict(config), sort_keys=True)})
