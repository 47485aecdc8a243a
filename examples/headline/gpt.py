"""A decoder-only transformer, as a function of named parameters; GPT-2, Llama and Pythia are settings of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

Parameters = dict[str, torch.Tensor]

#: Attention of a layer: `(layer, q [B,H,n,D], k [B,H,n,D], v [B,H,n,D]) -> o [B,H,n,D]`, causal, scale `1 / sqrt(D)`.
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Config:
    """The shape of a model."""

    vocab: int = 256
    layers: int = 6
    width: int = 384
    heads: int = 6
    kv_heads: int = 6
    head_dim: int = 64
    hidden: int = 1536
    norm: str = "rms"  # or `layer`
    eps: float = 1e-6
    positions: str = "rotary"  # or `learned`
    rotary_dim: int = 64
    rotary_base: float = 10000.0
    context: int = 4096
    activation: str = "gelu_tanh"  # or `gelu`, `swiglu`
    parallel: bool = False  # attention and MLP read the same `x`, as in GPT-NeoX


#: Sizes by name. Parameters: 0.13, 10.8 and 99 million.
SIZES = {
    "tiny": Config(layers=2, width=64, heads=4, kv_heads=4, head_dim=16, hidden=256, rotary_dim=16),
    "10m": Config(),
    "100m": Config(layers=14, width=768, heads=12, kv_heads=12, hidden=3072),
}


def initial_parameters(config: Config, seed: int, device: torch.device) -> Parameters:
    """Normal numbers of standard deviation 0.02, what is added to the residual stream divided by `sqrt(2 layers)`."""
    numbers = torch.Generator().manual_seed(seed)
    inner, deep = config.heads * config.head_dim, 0.02 / math.sqrt(2 * config.layers)

    def normal(rows: int, columns: int, deviation: float = 0.02) -> torch.Tensor:
        return deviation * torch.randn(rows, columns, generator=numbers)

    found: Parameters = {"emb.weight": normal(config.vocab, config.width)}
    if config.positions == "learned":
        found["pos.weight"] = normal(config.context, config.width)
    for layer in range(config.layers):
        name = f"blocks.{layer}."
        found[name + "ln1.weight"] = torch.ones(config.width)
        found[name + "ln2.weight"] = torch.ones(config.width)
        for of in ("wq", "wk", "wv"):
            rows = inner if of == "wq" else config.kv_heads * config.head_dim
            found[f"{name}{of}.weight"] = normal(rows, config.width)
        found[name + "wo.weight"] = normal(config.width, inner, deep)
        found[name + "w1.weight"] = normal(config.hidden, config.width)
        found[name + "w2.weight"] = normal(config.width, config.hidden, deep)
    found["lnf.weight"] = torch.ones(config.width)
    found["head.weight"] = normal(config.vocab, config.width)
    return {name: x.to(device).requires_grad_() for name, x in found.items()}


def rotate(x: torch.Tensor, config: Config) -> torch.Tensor:
    """Rotary positions on the first `rotary_dim` features, in pairs `(i, i + rotary_dim / 2)`; position 0 first."""
    half = config.rotary_dim // 2
    frequency = config.rotary_base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    # The factors are float32, and so are the products of 16-bit features with them.
    return torch.cat(((a * cos - b * sin).to(x.dtype), (a * sin + b * cos).to(x.dtype), rest), -1)


def token_losses(config: Config, parameters: Parameters, tokens: torch.Tensor, attend: Attend) -> torch.Tensor:
    """The cross-entropy in nats of every next token, `[B, n]`, of tokens `[B, n + 1]`."""
    logits = forward(config, parameters, tokens[:, :-1], attend)
    losses = functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.view(tokens.shape[0], -1)


def forward(config: Config, parameters: Parameters, tokens: torch.Tensor, attend: Attend) -> torch.Tensor:
    """Logits `[B, n, vocab]` of tokens `[B, n]`."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, parameters[name + ".weight"], parameters.get(name + ".bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = parameters[name + ".weight"], parameters.get(name + ".bias")
        if config.norm == "rms":
            return functional.rms_norm(x, (config.width,), weight, config.eps)
        return functional.layer_norm(x, (config.width,), weight, bias, config.eps)

    def heads(x: torch.Tensor, count: int) -> torch.Tensor:
        return x.unflatten(-1, (count, config.head_dim)).transpose(1, 2)

    def attention(layer: int, x: torch.Tensor) -> torch.Tensor:
        name = f"blocks.{layer}."
        q = heads(linear(x, name + "wq"), config.heads)
        k, v = (heads(linear(x, name + of), config.kv_heads) for of in ("wk", "wv"))
        if config.positions == "rotary":
            q, k = rotate(q, config), rotate(k, config)
        if config.kv_heads != config.heads:
            k, v = (y.repeat_interleave(config.heads // config.kv_heads, 1) for y in (k, v))
        return linear(attend(layer, q, k, v).transpose(1, 2).flatten(2), name + "wo")

    def perceptron(layer: int, x: torch.Tensor) -> torch.Tensor:
        name = f"blocks.{layer}."
        y = linear(x, name + "w1")
        if config.activation == "swiglu":
            y = functional.silu(y) * linear(x, name + "w3")
        else:
            y = functional.gelu(y, approximate="tanh" if config.activation == "gelu_tanh" else "none")
        return linear(y, name + "w2")

    x = functional.embedding(tokens, parameters["emb.weight"])
    if config.positions == "learned":
        x = x + parameters["pos.weight"][: tokens.shape[1]]
    for layer in range(config.layers):
        name = f"blocks.{layer}."
        if config.parallel:
            x = x + attention(layer, norm(x, name + "ln1")) + perceptron(layer, norm(x, name + "ln2"))
        else:
            x = x + attention(layer, norm(x, name + "ln1"))
            x = x + perceptron(layer, norm(x, name + "ln2"))
    head = parameters.get("head.weight", parameters["emb.weight"])
    return functional.linear(norm(x, "lnf"), head)
