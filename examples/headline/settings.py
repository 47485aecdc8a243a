"""What a measurement samples with: settings by words, such as `c=30,sampler=systematic,layers=0+1`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .attention import Masking
from .errors import InputError
from .estimator import Estimator
from .gpt import Config

RULES = ("paper", "calibrated")
SAMPLERS = ("bernoulli", "systematic")
#: Words of a setting with a value, and without one.
NAMES = ("c", "budgets", "rule", "sampler", "layers", "without", "heads", "rows", "count")
FLAGS = ("centred", "remainder")


@dataclass(frozen=True)
class Setting:
    """A budget for every layer and head (`inf`: dense there), a rule and a sampler; `text` names it in tables."""

    text: str
    c: tuple[tuple[float, ...], ...]
    rule: str
    sampler: str
    estimator: Estimator = Estimator()

    def masking(self, device: torch.device) -> Masking:
        return Masking(torch.tensor(self.c, dtype=torch.float32, device=device), self.rule, self.sampler, self.estimator)

    def about(self) -> dict[str, object]:
        """For the JSON, where `null` is a dense head."""
        finite = [[None if math.isinf(c) else c for c in row] for row in self.c]
        return {"text": self.text, "c": finite, "rule": self.rule, "sampler": self.sampler} | (
            {"estimator": asdict(self.estimator)} if self.estimator != Estimator() else {}
        )


def _numbers(word: str, name: str, limit: int) -> list[int]:
    try:
        found = [int(part) for part in word.split("+")]
    except ValueError:
        found = [-1]
    if not all(0 <= number < limit for number in found):
        raise InputError(f"a setting's {name}: expected numbers from 0 to {limit - 1} joined by '+', found {word!r}")
    return found


def parse_setting(text: str, config: Config) -> Setting:
    """`c=C` or `budgets=FILE`, then `rule=`, `sampler=`, `layers=` or `without=` (layers), `heads=`, by commas.

    `rows=cotangent`, `centred`, `remainder` and `count=paper` are those of `Estimator`.
    """
    words: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if name not in (NAMES if equals else FLAGS) or name in words:
            raise InputError(f"a setting: expected NAME=VALUE of {', '.join(NAMES)}, or {' or '.join(FLAGS)}, found {part!r}")
        words[name] = value
    if ("c" in words) == ("budgets" in words):
        raise InputError(f"a setting: expected one of c and budgets, found {text!r}")
    if "budgets" in words:
        table = read_budgets(Path(words["budgets"]), config)
    else:
        try:
            c = float(words["c"])
        except ValueError:
            c = math.nan
        if not c > 0:
            raise InputError(f"a setting's c: expected a number above 0, or inf, found {words['c']!r}")
        table = [[c] * config.heads for _ in range(config.layers)]
    rule, sampler = words.get("rule", "paper"), words.get("sampler", "bernoulli")
    for name, found, known in (("rule", rule, RULES), ("sampler", sampler, SAMPLERS)):
        if found not in known:
            raise InputError(f"a setting's {name}: expected {' or '.join(known)}, found {found!r}")
    for name, known in (("rows", "cotangent"), ("count", "paper")):
        if words.get(name, known) != known:
            raise InputError(f"a setting's {name}: expected {known}, found {words[name]!r}")
    estimator = Estimator("rows" in words, "centred" in words, "remainder" in words, "count" in words)
    if estimator and rule != "paper":
        raise InputError(f"a setting: expected rule=paper with rows, remainder or count, found {text!r}")
    layers = set(_numbers(words["layers"], "layers", config.layers)) if "layers" in words else set(range(config.layers))
    layers -= set(_numbers(words["without"], "layers", config.layers)) if "without" in words else set()
    heads = set(_numbers(words["heads"], "heads", config.heads)) if "heads" in words else set(range(config.heads))
    rows = tuple(
        tuple(c if layer in layers and head in heads else math.inf for head, c in enumerate(row)) for layer, row in enumerate(table)
    )
    return Setting(text, rows, rule, sampler, estimator)


def read_budgets(path: Path, config: Config) -> list[list[float]]:
    """A JSON file `{"c": [[c of layer 0, head 0, ...], ...]}`: a budget for every head of every layer; `null` keeps all."""
    try:
        table = json.loads(path.read_text())["c"]
        found = [[math.inf if c is None else float(c) for c in row] for row in table]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"option 'budgets': expected a JSON file {{\"c\": [[...], ...]}}, found {str(path)!r}: {error}") from None
    shape = sorted({(len(found), len(row)) for row in found})
    if shape != [(config.layers, config.heads)]:
        raise InputError(f"option 'budgets': expected {config.layers} layers of {config.heads} heads, found {shape} in {str(path)!r}")
    if not all(c > 0 for row in found for c in row):
        raise InputError(f"option 'budgets': expected numbers above 0 or null, found others in {str(path)!r}")
    return found


def shares(c: str, config: Config) -> list[str]:
    """The mask in one layer alone, and in all but one."""
    one = [f"c={c},layers={layer}" for layer in range(config.layers)]
    return one + [f"c={c},without={layer}" for layer in range(config.layers)]
