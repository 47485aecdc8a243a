"""A small transformer in NumPy and float64: the loss of a window and its gradient by all weights, written out by hand.

It shares no code with `examples/headline/*.py`, so that the two can check each other. The formulas are those of the backward pass of
each operation; the weights of attention that the backward pass uses are what `keep` makes of them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]

#: `W~` of the weights `[H, n, n]` of a layer.
Keep = Callable[[np.ndarray], np.ndarray]


def read_weights(path: Path) -> tuple[dict, Arrays]:
    """A safetensors file of bfloat16 tensors: the configuration in its metadata, and the tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    config = json.loads(header.pop("__metadata__")["headline"])
    found = {}
    for name, about in header.items():
        if about["dtype"] != "BF16":
            raise ValueError(f"tensor {name!r}: expected BF16, found {about['dtype']}")
        begin, end = about["data_offsets"]
        # A bfloat16 number is the upper half of a float32 number.
        bits = np.frombuffer(body[begin:end], "<u2").astype(np.uint32) << 16
        found[name] = bits.view(np.float32).astype(np.float64).reshape(about["shape"])
    return config, found


class Network:
    """One window: `forward` once, then `gradient` for any number of masks."""

    def __init__(self, config: dict, weights: Arrays) -> None:
        self.config, self.weights = config, weights

    def forward(self, tokens: np.ndarray) -> float:
        """The mean cross-entropy in nats of `tokens[1:]`; `tokens` `[n + 1]`."""
        w, eps = self.weights, self.config["eps"]
        self.inputs, targets = tokens[:-1], tokens[1:]
        n, half = len(self.inputs), self.config["rotary_dim"] // 2
        angle = np.arange(n)[:, None] * self.config["rotary_base"] ** (-np.arange(half) / half)
        self.cos, self.sin = np.cos(angle), np.sin(angle)
        x = w["emb.weight"][self.inputs]
        self.steps = []
        for layer in range(self.config["layers"]):
            name = f"blocks.{layer}."
            a, x1, r1 = normalised(x, w[name + "ln1.weight"], eps)
            q, k, v = (self.split(a @ w[f"{name}{of}.weight"].T) for of in ("wq", "wk", "wv"))
            q, k = self.turn(q, 1), self.turn(k, 1)
            scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
            scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            o = p @ v
            joined = o.swapaxes(0, 1).reshape(n, -1)
            x = x + joined @ w[name + "wo.weight"].T
            b, x2, r2 = normalised(x, w[name + "ln2.weight"], eps)
            h = b @ w[name + "w1.weight"].T
            t = np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))
            y = 0.5 * h * (1 + t)
            x = x + y @ w[name + "w2.weight"].T
            self.steps.append((a, x1, r1, q, k, v, p, o, joined, b, x2, r2, h, t, y))
        self.last, self.x, self.r = normalised(x, w["lnf.weight"], eps)
        logits = self.last @ w["head.weight"].T
        logits -= logits.max(-1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        # The derivative of the mean cross-entropy: (softmax - one) / n.
        self.error = np.exp(logs)
        self.error[np.arange(n), targets] -= 1
        self.error /= n
        return float(-logs[np.arange(n), targets].mean())

    def gradient(self, keep: Keep) -> Arrays:
        """By all weights; attention uses `keep(W)` in place of `W` in `dS = W (g . v - g . o)` and `dv = W^T g`."""
        w, found = self.weights, {}
        found["head.weight"] = self.error.T @ self.last
        g, found["lnf.weight"] = normalised_back(self.error @ w["head.weight"], self.x, self.r, w["lnf.weight"])
        for layer in reversed(range(self.config["layers"])):
            name = f"blocks.{layer}."
            a, x1, r1, q, k, v, p, o, joined, b, x2, r2, h, t, y = self.steps[layer]
            found[name + "w2.weight"] = g.T @ y
            slope = 0.5 * (1 + t) + 0.5 * h * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * h**2)
            dh = (g @ w[name + "w2.weight"]) * slope
            found[name + "w1.weight"] = dh.T @ b
            back, found[name + "ln2.weight"] = normalised_back(dh @ w[name + "w1.weight"], x2, r2, w[name + "ln2.weight"])
            g = g + back
            found[name + "wo.weight"] = g.T @ joined
            do = self.split(g @ w[name + "wo.weight"])
            kept = keep(p)
            ds = kept * (do @ v.swapaxes(1, 2) - (do * o).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
            parts = {"wq": self.turn(ds @ k, -1), "wk": self.turn(ds.swapaxes(1, 2) @ q, -1), "wv": kept.swapaxes(1, 2) @ do}
            da = np.zeros_like(a)
            for of, part in parts.items():
                flat = part.swapaxes(0, 1).reshape(len(a), -1)
                found[f"{name}{of}.weight"] = flat.T @ a
                da += flat @ w[f"{name}{of}.weight"]
            back, found[name + "ln1.weight"] = normalised_back(da, x1, r1, w[name + "ln1.weight"])
            g = g + back
        found["emb.weight"] = np.zeros_like(w["emb.weight"])
        np.add.at(found["emb.weight"], self.inputs, g)
        return found

    def split(self, x: np.ndarray) -> np.ndarray:
        """`[n, H D]` as `[H, n, D]`."""
        return x.reshape(len(x), self.config["heads"], -1).swapaxes(0, 1)

    def turn(self, x: np.ndarray, sign: int) -> np.ndarray:
        """Rotary positions, pairs `(i, i + D / 2)`; with `sign` -1 the inverse, which is the transpose."""
        half = x.shape[-1] // 2
        a, b, sin = x[..., :half], x[..., half:], sign * self.sin
        return np.concatenate([a * self.cos - b * sin, a * sin + b * self.cos], -1)


def normalised(x: np.ndarray, weight: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`x r w` with `r = 1 / sqrt(mean x^2 + eps)`, and `x` and `r`."""
    r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return x * r * weight, x, r


def normalised_back(g: np.ndarray, x: np.ndarray, r: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By `x` and by the weight: `r g w - r^3 x mean(g w x)` and the sum of `g x r`."""
    gw = g * weight
    return r * gw - r**3 * x * (gw * x).mean(-1, keepdims=True), (g * x * r).sum(0)
