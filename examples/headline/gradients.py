"""The gradient of a window's loss by all parameters, as one vector, and its squared lengths tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .attention import Attention, Masking
from .gpt import Config, Parameters, token_losses


@dataclass
class Window:
    """A window whose forward pass is done: any number of backward passes may follow."""

    loss: torch.Tensor
    leaves: list[torch.Tensor]
    attention: Attention

    @classmethod
    def of(cls, config: Config, parameters: Parameters, tokens: torch.Tensor, attention: Attention) -> Window:
        """`tokens` `[n + 1]`; the loss is the mean over the `n` next tokens."""
        return cls(token_losses(config, parameters, tokens[None], attention).mean(), list(parameters.values()), attention)

    def gradient(self, masking: Masking) -> torch.Tensor:
        """`[parameters]`, in float32; the mask is drawn from the attention's generator."""
        self.attention.masking = masking
        found = torch.autograd.grad(self.loss, self.leaves, retain_graph=True)
        return torch.cat([x.flatten() for x in found])


def squares(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """The sum of squares of each tensor's part of a vector, in float64."""
    return torch.stack(torch._foreach_norm(x.split(sizes))).double() ** 2


def products(x: torch.Tensor, y: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """The inner product of each tensor's part of two vectors, in float64."""
    return torch.stack([torch.dot(a, b) for a, b in zip(x.split(sizes), y.split(sizes), strict=True)]).double()
