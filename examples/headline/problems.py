"""`problems`: the attention of each layer as a file in the problem format, which `sus-oracle choose-c --layers` and `analyze` read.

`q`, `k`, `v`, `do` `[windows, heads, n, D]` in float32, causal; `do` is the derivative of a window's summed cross-entropy. Key heads that
several query heads share are written once for each of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import corpus
from .attention import dense
from .checkpoints import load_model
from .errors import InputError
from .gpt import Config, Parameters, token_losses
from .measure import tokens_of
from .progress import say

Tensors = dict[str, torch.Tensor]


def layer_problems(config: Config, parameters: Parameters, tokens: torch.Tensor) -> list[Tensors]:
    """`q, k, v, do` `[B, H, n, D]` of every layer, of tokens `[B, n + 1]`."""
    passed: list[tuple[torch.Tensor, ...]] = []

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        o = dense(layer, q, k, v)
        passed.append((q, k, v, o))
        return o

    loss = token_losses(config, parameters, tokens, attend).sum()
    cotangents = torch.autograd.grad(loss, [o for *_, o in passed])
    return [
        dict(zip(("q", "k", "v", "do"), (x.detach().float().cpu().contiguous() for x in (*operands[:3], g)), strict=True))
        for operands, g in zip(passed, cotangents, strict=True)
    ]


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("headline problems", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder: layer0.safetensors, ...")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--whole", action="store_true", help="the windows are from the whole text, not from its held-out part")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(words)
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(f"option 'out': expected a new folder, found {str(args.out)!r}")
    for name in ("n", "windows"):
        if getattr(args, name) < 1:
            raise InputError(f"option '{name}': expected a number above 0, found {getattr(args, name)}")
    device = torch.device(args.device)
    config, parameters = load_model(args.model, device)
    tokens, _ = tokens_of(args, config.vocab)
    windows = torch.from_numpy(corpus.spread_windows(tokens, args.n, args.windows, args.seed)).to(device)
    parts = [layer_problems(config, parameters, window[None]) for window in windows]
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"sus_oracle": json.dumps({"causal": True, "scale": config.head_dim**-0.5})}
    for layer, pieces in enumerate(zip(*parts, strict=True)):
        path = args.out / f"layer{layer}.safetensors"
        save_file({name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}, path, about)
        say(f"wrote {path}")
