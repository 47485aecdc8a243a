"""The text: Python sources, as bytes; a tenth of the files is held out of the training."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError

#: A file is held out if the first byte of the SHA-256 of its name is below this: 26 of 256.
HELD_OUT_BELOW = 26


@dataclass
class Corpus:
    """Tokens for training and held-out ones, and a description for the JSON."""

    train: np.ndarray
    held_out: np.ndarray
    about: dict[str, object]


def standard_library() -> Path:
    """The folder of the running Python's own sources."""
    return Path(sysconfig.get_path("stdlib"))


def read_corpus(paths: list[str]) -> Corpus:
    """The `.py` files under the folders, in the order of their names, or a single file, whose last tenth is held out.

    Without a path: the standard library's own sources. Packages installed inside of a folder are not its own.
    """
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    count = 0
    roots = [Path(path) for path in paths] or [standard_library()]
    for root in roots:
        if root.is_file():
            text = root.read_bytes()
            cut = len(text) - len(text) // 10
            parts[False].append(text[:cut])
            parts[True].append(text[cut:])
            count += 1
            continue
        if not root.is_dir():
            raise InputError(f"option 'text': expected a file or a folder, found {str(root)!r}")
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if name.startswith(("site-packages/", "dist-packages/")):
                continue
            held_out = hashlib.sha256(name.encode()).digest()[0] < HELD_OUT_BELOW
            parts[held_out].append(b"# FILE: " + name.encode() + b"\n" + path.read_bytes() + b"\n")
            count += 1
    texts = {held_out: b"".join(part) for held_out, part in parts.items()}
    for held_out, name in ((False, "train"), (True, "held-out")):
        if len(texts[held_out]) < 2:
            raise InputError(f"option 'text': expected {name} text, found none in {[str(root) for root in roots]}")
    about = {
        "files": count,
        "train_bytes": len(texts[False]),
        "held_out_bytes": len(texts[True]),
        "held_out_sha256": hashlib.sha256(texts[True]).hexdigest(),
    }
    return Corpus(*(np.frombuffer(texts[held_out], np.uint8) for held_out in (False, True)), about)


def spread_windows(tokens: np.ndarray, length: int, count: int, seed: int) -> np.ndarray:
    """`count` windows `[count, length + 1]` that do not overlap, in a random order; fewer if the text is short."""
    fit = (len(tokens) - 1) // length
    if fit < 2:
        raise InputError(f"the text: expected two windows of {length + 1} tokens or more, found {len(tokens)} tokens")
    places = np.random.default_rng(seed).permutation(fit)[:count]
    return np.stack([tokens[at * length : at * length + length + 1] for at in places]).astype(np.int64)


def random_batch(tokens: np.ndarray, length: int, batch: int, seed: int, step: int) -> np.ndarray:
    """`[batch, length + 1]` tokens of a training step: a function of the seed and the step alone."""
    starts = np.random.default_rng([seed, step]).integers(0, len(tokens) - length, batch)
    return np.stack([tokens[start : start + length + 1] for start in starts]).astype(np.int64)
