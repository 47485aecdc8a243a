"""`train`: a GPT trained dense and with SUS, from the same start and on the same batches.

Every run writes its weights at the stages asked for, and the JSON has the loss of every step, the time until then, and the loss on
held-out text. A run that is stopped goes on from its last state when the command is given again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from . import corpus
from .attention import Attention, Masking, dense
from .checkpoints import save_model
from .errors import InputError
from .gpt import SIZES, Attend, Config, Parameters, initial_parameters, token_losses
from .parse import numbers
from .progress import load_state, save_state, say, versions, write_json


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("headline train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and states")
    parser.add_argument("--json", type=Path, help="the curves; OUT/train.json by default")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    for name in ("layers", "width", "heads", "hidden"):
        parser.add_argument(f"--{name}", type=int, help="instead of the size's")
    parser.add_argument("--positions", choices=("rotary", "learned"), default="rotary")
    parser.add_argument("--runs", default="dense", help="of dense, bernoulli:C, systematic:C, by commas; calibrated/SAMPLER:C for that rule")
    parser.add_argument("--text", action="append", default=[], help="a folder of Python sources or a file; may be repeated [the standard library]")
    parser.add_argument("--n", type=int, default=512, help="tokens of a window")
    parser.add_argument("--batch", type=int, default=8, help="windows of a step")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, help="of a run: the learning rate falls to 0 at this time, if the steps are not over before")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--stages", default="1", help="fractions of the training at which weights are saved, by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", type=int, default=10, help="how often the held-out loss is taken")
    parser.add_argument("--held-out", type=int, default=16, help="windows of held-out text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunk", type=int, help="elements of an array of weights in memory at a time")
    parser.add_argument("--save-seconds", type=float, default=60, help="between two states")
    return parser


def parse_run(name: str, config: Config, device: torch.device) -> Masking:
    """`dense`, or `[RULE/]SAMPLER:C`."""
    if name == "dense":
        return Masking()
    kind, _, c = name.partition(":")
    rule, _, sampler = kind.rpartition("/")
    try:
        budget = float(c)
    except ValueError:
        budget = math.nan
    if sampler not in ("bernoulli", "systematic") or rule not in ("", "paper", "calibrated") or not budget > 0:
        raise InputError(f"option 'runs': expected dense or [RULE/]SAMPLER:C, found {name!r}")
    return Masking(torch.full((config.layers, config.heads), budget, device=device), rule or "paper", sampler)


def rate(args: argparse.Namespace, step: int, progress: float) -> float:
    """Linear warm-up over a fiftieth of the steps, at most 200; linear decay to 0."""
    warm = max(1, min(200, args.steps // 50))
    return float(args.lr * min(1, (step + 1) / warm) * max(0, 1 - progress))


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


@torch.no_grad()
def held_out_loss(config: Config, parameters: Parameters, windows: torch.Tensor, device: torch.device) -> float:
    with autocast(device):
        losses = [token_losses(config, parameters, window[None], dense).mean() for window in windows]
    return float(torch.stack(losses).mean())


def train_run(name: str, args: argparse.Namespace, config: Config, text: corpus.Corpus, device: torch.device) -> dict[str, Any]:
    """One training; the curves of the JSON."""
    stem = name.replace("/", "-").replace(":", "-")
    state_path = args.out / f"{stem}.state"
    parameters = initial_parameters(config, args.seed, device)
    decay = [x for x in parameters.values() if x.ndim > 1]
    plain = [x for x in parameters.values() if x.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.95), fused=device.type == "cuda",
    )  # fmt: skip
    curve: dict[str, Any] = {"name": name, "step": [], "loss": [], "seconds": [], "evaluated": [], "held_out_loss": [], "stages": []}
    step, spent = 0, 0.0
    asked = {key: str(value) for key, value in vars(args).items() if key not in ("out", "json", "save_seconds", "runs", "device", "chunk")}
    if state_path.exists():
        state = load_state(state_path, device)
        if state["asked"] != asked:
            raise InputError(f"option 'out': expected the options of the run in {str(state_path)!r}, found others; take a new folder")
        for key, value in parameters.items():
            value.data.copy_(state["parameters"][key])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, curve = state["step"], state["spent"], state["curve"]
        say(f"{name}: goes on at step {step}")
    masking = parse_run(name, config, device)
    generator = torch.Generator(device=device)
    attention = Attention(config.layers, config.heads, generator, args.chunk or chunk_for(device), masking)
    attend: Attend = dense if masking.c is None else attention
    windows = torch.from_numpy(corpus.spread_windows(text.held_out, args.n, args.held_out, args.seed)).to(device)
    stages = sorted(set(numbers(args.stages, "stages", float, 0.0, 1.0)))
    done = bool(curve["stages"]) and stages[-1] <= curve["stages"][-1]["progress"] and curve.get("done", False)
    begin, last_saved = time.monotonic() - spent, time.monotonic()

    def save(last: bool) -> None:
        curve["done"] = last
        values = {key: x.detach() for key, x in parameters.items()}
        state = {"asked": asked, "parameters": values, "optimizer": optimizer.state_dict(), "step": step, "spent": spent, "curve": curve}
        save_state(state_path, state)

    while not done:
        spent = time.monotonic() - begin
        progress = step / args.steps
        if args.seconds:
            progress = max(progress, spent / args.seconds)
        done = progress >= 1
        progress = min(1.0, progress)
        if done or len(curve["evaluated"]) <= progress * args.evaluate:
            curve["evaluated"].append(step)
            curve["held_out_loss"].append(round(held_out_loss(config, parameters, windows, device), 5))
        while stages and len(curve["stages"]) < len(stages) and progress >= stages[len(curve["stages"])]:
            stage = stages[len(curve["stages"])]
            path = args.out / f"{stem}-{stage:g}.safetensors"
            save_model(path, config, parameters)
            curve["stages"].append({"stage": stage, "progress": progress, "step": step, "file": path.name})
        if done:
            save(True)
            break
        if time.monotonic() - last_saved > args.save_seconds:
            save(False)
            last_saved = time.monotonic()
        begin = time.monotonic() - spent  # evaluations and states are not counted
        for group in optimizer.param_groups:
            group["lr"] = rate(args, step, progress)
        tokens = torch.from_numpy(corpus.random_batch(text.train, args.n, args.batch, args.seed, step)).to(device)
        generator.manual_seed((args.seed << 32) + step)
        with autocast(device):
            loss = token_losses(config, parameters, tokens, attend).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(f"run {name}: expected a finite loss, found {value} at step {step}; a lower --lr may help")
        curve["step"].append(step)
        curve["loss"].append(round(value, 5))
        curve["seconds"].append(round(time.monotonic() - begin, 3))
        say(f"{name}: step {step} of {args.steps}, {progress:.1%}, loss {value:.4f}, {curve['seconds'][-1]:.1f} s", 2)
    say(f"{name}: {step} steps in {spent:.1f} s, held-out loss {curve['held_out_loss'][-1]:.4f}")
    return curve


def chunk_for(device: torch.device) -> int:
    """About half a GiB for an array on a GPU, 16 MiB on a CPU."""
    return 1 << 27 if device.type == "cuda" else 1 << 22


def main(words: Sequence[str]) -> None:
    args = options().parse_args(words)
    device = torch.device(args.device)
    torch.set_float32_matmul_precision("high")
    sizes = {name: getattr(args, name) for name in ("layers", "width", "heads", "hidden") if getattr(args, name)}
    config = dataclasses.replace(SIZES[args.size], positions=args.positions, context=args.n, **sizes)
    config = dataclasses.replace(config, kv_heads=config.heads, head_dim=config.width // config.heads)
    config = dataclasses.replace(config, rotary_dim=config.head_dim)
    text = corpus.read_corpus(args.text)
    say(f"text: {text.about['files']} files, {len(text.train)} bytes to train on, {len(text.held_out)} held out")
    runs = args.runs.split(",")
    for name in runs:
        parse_run(name, config, device)
    count = sum(x.numel() for x in initial_parameters(config, args.seed, torch.device("cpu")).values())
    result = {
        "command": "train",
        "seed": args.seed,
        "model": dataclasses.asdict(config) | {"parameters": count},
        "text": text.about,
        "options": {name: getattr(args, name) for name in ("size", "n", "batch", "steps", "seconds", "lr")},
        "versions": versions(device),
        "runs": [],
    }
    for name in runs:
        result["runs"].append(train_run(name, args, config, text, device))
        write_json(args.json or args.out / "train.json", result)
