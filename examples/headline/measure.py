"""`measure`: the variance that a mask adds to a gradient, over the variance of the dense gradient between windows.

For a window `x` of text, `g(x)` is the dense gradient of the mean loss of its tokens, and `e = g^ - g` what a draw of the mask adds. By the
law of total variance `tr Var g^ = tr Var_x g + E tr Var_mask`, and a figure is `mean |e|^2` over `sum |g - mean g|^2 / (windows - 1)`.
The JSON holds, besides the figures with their standard errors, the numbers of every window, so that `table` and `plot` can group and trim
them in another way. A measurement that is stopped goes on where it was when the command is given again.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import corpus
from .attention import Attention, Masking
from .checkpoints import load_model
from .errors import InputError
from .figures import OUTLIER, figures
from .gpt import Config, Parameters
from .gradients import Window, products, squares
from .parse import numbers
from .progress import load_state, save_state, say, versions, write_json
from .settings import RULES, SAMPLERS, Setting, parse_setting, shares
from .train import chunk_for


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("headline measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="safetensors files, or folders of them with a config.json")
    parser.add_argument("--json", type=Path, required=True, help="the result; states lie beside it, or in --state")
    parser.add_argument("--state", type=Path, help="folder for states")
    parser.add_argument("--n", default="512", help="tokens of a window, by commas")
    parser.add_argument("--windows", type=int, default=64, help="at most so many")
    parser.add_argument("--c", default="30", help="budgets, by commas; '' for none")
    parser.add_argument("--rule", default="paper", help=f"of {', '.join(RULES)}, by commas")
    parser.add_argument("--sampler", default="bernoulli", help=f"of {', '.join(SAMPLERS)}, by commas")
    parser.add_argument("--budgets", action="append", default=[], help='a JSON file {"c": [[a budget for each head], each layer]}; may be repeated')
    parser.add_argument("--setting", action="append", default=[], help="such as c=30,sampler=systematic,layers=0+1 or c=30,rows=cotangent,centred,remainder,count=paper; may be repeated")
    parser.add_argument("--share", help="a budget: also the mask in each layer alone, and in all but each")
    parser.add_argument("--text", action="append", default=[], help="a folder of Python sources or a file; may be repeated [the standard library]")
    parser.add_argument("--whole", action="store_true", help="the windows are from the whole text, not from its held-out part")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, for models that do not read bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="of each model and n: no further window begins after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunk", type=int, help="elements of an array of weights in memory at a time")
    parser.add_argument("--save-seconds", type=float, default=120, help="between two states")
    return parser


def all_settings(args: argparse.Namespace, config: Config) -> list[Setting]:
    texts = []
    for rule in args.rule.split(","):
        for sampler in args.sampler.split(","):
            more = ("" if rule == "paper" else f",rule={rule}") + ("" if sampler == "bernoulli" else f",sampler={sampler}")
            texts += [f"c={c}{more}" for c in args.c.split(",") if c]
            texts += [f"budgets={path}{more}" for path in args.budgets]
    texts += args.setting + (shares(args.share, config) if args.share else [])
    return [parse_setting(text, config) for text in dict.fromkeys(texts)]


def draw_seed(*words: object) -> int:
    """A seed for each draw, that no other draw has: a hash of what it is for."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:7], "little")


class Measurement:
    """One model at one `n`: a first pass over the windows for the mean gradient, a second for the masks."""

    def __init__(self, config: Config, parameters: Parameters, windows: torch.Tensor, settings: list[Setting], args: argparse.Namespace) -> None:
        self.config, self.parameters, self.windows, self.settings = config, parameters, windows, settings
        self.device, self.seed = windows.device, args.seed
        self.sizes = [x.numel() for x in parameters.values()]
        numbers = torch.Generator(device=self.device)
        self.attention = Attention(config.layers, config.heads, numbers, args.chunk or chunk_for(self.device))
        self.state: dict[str, Any] = {
            "first": [], "second": [], "sum": torch.zeros(sum(self.sizes), device=self.device), "outliers": None, "errors": {},
        }  # fmt: skip

    def window(self, at: int) -> Window:
        return Window.of(self.config, self.parameters, self.windows[at], self.attention)

    def first(self, at: int) -> None:
        """Loss, squared lengths of the dense gradient, and its sum over the windows."""
        window = self.window(at)
        g = window.gradient(Masking())
        self.state["sum"] += g
        self.state["first"].append({"loss": float(window.loss.detach()), "g2": squares(g, self.sizes).tolist()})

    def outliers(self) -> list[int]:
        """Windows with a freak gradient, `|g|^2` above 20 medians, and the sum of theirs."""
        lengths = np.array([sum(record["g2"]) for record in self.state["first"]])
        found = [int(at) for at in np.flatnonzero(lengths > OUTLIER * np.median(lengths))]
        if self.state["outliers"] is None:
            total = torch.zeros_like(self.state["sum"])
            for at in found:
                total += self.window(at).gradient(Masking())
            self.state["outliers"] = total
        return found

    def second(self, at: int) -> None:
        """The products of a window's dense gradient with the sums, and what every setting's mask adds."""
        window = self.window(at)
        g = window.gradient(Masking())
        record: dict[str, Any] = {
            "g_sum": products(g, self.state["sum"], self.sizes).tolist(),
            "g_outliers": products(g, self.state["outliers"], self.sizes).tolist(),
            "masks": [],
        }
        self.attention.count = True
        for number, setting in enumerate(self.settings):
            self.attention.begin_counts()
            self.attention.numbers.manual_seed(draw_seed(self.seed, at, setting))
            e = window.gradient(setting.masking(self.device)) - g
            before = self.state["errors"].setdefault(number, torch.zeros_like(e))
            record["masks"].append({
                "e2": squares(e, self.sizes).tolist(),
                # |E + e|^2 = |E|^2 + |e|^2 + 2 E.e, and the last term has the mean 0 whatever E was, if the mask adds no bias.
                "growth": 2 * float(torch.dot(before, e)),
                "kept": (self.attention.kept / len(self.windows[at][1:])).tolist(),
                "expected": (self.attention.expected / len(self.windows[at][1:])).tolist(),
            })  # fmt: skip
            before += e
        self.attention.count = False
        self.state["second"].append(record)

    def run(self, name: str, path: Path, every: float, seconds: float | None) -> None:
        """Both passes; the state is saved in between. With `seconds`, the second pass ends early."""
        begin, saved = time.monotonic(), time.monotonic()
        for phase in ("first", "second"):
            while len(self.state[phase]) < len(self.windows):
                if phase == "second" and self.state["outliers"] is None:
                    self.outliers()
                getattr(self, phase)(len(self.state[phase]))
                done = len(self.state[phase])
                say(f"{name}: {phase} pass, window {done} of {len(self.windows)}, {time.monotonic() - begin:.0f} s", 2)
                if time.monotonic() - saved > every:
                    save_state(path, self.state)
                    saved = time.monotonic()
                if seconds and phase == "second" and done >= 8 and time.monotonic() - begin > seconds:
                    say(f"{name}: the time is over after {done} windows")
                    return

    def result(self) -> dict[str, Any]:
        """What goes into the JSON: numbers of windows by parameter tensor, with six digits."""

        def short(values: Any) -> Any:
            return [short(x) for x in values] if isinstance(values, list) else float(f"{values:.6g}")

        first, second = self.state["first"], self.state["second"]
        return {
            "tensors": list(self.parameters),
            "sizes": self.sizes,
            "outliers": self.outliers(),
            "loss": short([record["loss"] for record in first]),
            "g2": short([record["g2"] for record in first]),
            "g_sum": short([record["g_sum"] for record in second]),
            "g_outliers": short([record["g_outliers"] for record in second]),
            "masks": [
                setting.about()
                | {key: short([record["masks"][number][key] for record in second]) for key in ("e2", "growth")}
                | {key: short(np.mean([record["masks"][number][key] for record in second], 0).tolist()) for key in ("kept", "expected")}
                for number, setting in enumerate(self.settings)
            ],
        }


def tokens_of(args: argparse.Namespace, vocab: int) -> tuple[np.ndarray, dict[str, object]]:
    text = corpus.read_corpus(args.text)
    tokens = np.concatenate([text.train, text.held_out]) if args.whole else text.held_out
    if args.tokenizer:
        from tokenizers import Tokenizer

        ids = Tokenizer.from_file(str(args.tokenizer)).encode(tokens.tobytes().decode(errors="replace")).ids
        tokens = np.array(ids)
    elif vocab != 256:
        raise InputError(f"option 'tokenizer': expected a tokenizer.json, as the model has {vocab} tokens and not the 256 bytes")
    if tokens.max() >= vocab:
        raise InputError(f"the text: expected tokens below {vocab}, found {tokens.max()}")
    return tokens, text.about


def main(words: Sequence[str]) -> None:
    args = options().parse_args(words)
    device = torch.device(args.device)
    torch.set_float32_matmul_precision("highest")
    if args.windows < 3:
        raise InputError(f"option 'windows': expected 3 or more, for a standard error, found {args.windows}")
    result: dict[str, Any] = {"command": "measure", "seed": args.seed, "versions": versions(device), "runs": []}
    for path in args.model:
        config, parameters = load_model(path, device)
        tokens, about = tokens_of(args, config.vocab)
        settings = all_settings(args, config)
        if not settings:
            raise InputError("options 'c', 'budgets', 'setting': expected a setting, found none")
        for n in numbers(args.n, "n", int, 2, 1 << 20):
            windows = torch.from_numpy(corpus.spread_windows(tokens, n, args.windows, args.seed)).to(device)
            key = [str(path), n, args.seed, about, [setting.about() for setting in settings], windows.tolist()[:2]]
            name = f"{path.stem}-{n}-{draw_seed(key):014x}"
            state_path = (args.state or args.json.parent) / f"{name}.state"
            measurement = Measurement(config, parameters, windows, settings, args)
            if state_path.exists():
                measurement.state = load_state(state_path, device)
                say(f"{path.stem}, n = {n}: goes on after {len(measurement.state['second'])} windows")
            measurement.run(f"{path.stem}, n = {n}", state_path, args.save_seconds, args.seconds)
            run = {"model": path.name, "n": n, "text": about} | measurement.result()
            run["figures"] = figures(run)
            for figure in run["figures"]:
                say(f"{path.stem}, n = {n}: {figure['text']}: {figure['line']}")
            result["runs"].append(run)
            write_json(args.json, result)
