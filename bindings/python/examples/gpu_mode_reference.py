"""A task in the form of GPU MODE (``generate_input``, ``ref_kernel``, ``check_implementation``) whose kernel is an
attention backward pass. The verdict takes the place of ``make_match_reference`` with its two tolerances."""

import sus_oracle
import torch
from sus_oracle import adapters


def generate_input(batch: int, heads: int, length: int, dim: int, seed: int):
    """``q``, ``k``, ``v`` and the cotangent of ``o``, ``[B, H, S, D]``, in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, heads, length, dim)
    return tuple(torch.randn(shape, generator=generator).to(torch.bfloat16) for _ in range(4))


def ref_kernel(data):
    """``dq``, ``dk``, ``dv`` of causal attention."""
    *inputs, do = data
    inputs = [x.detach().float().requires_grad_() for x in inputs]
    o = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
    return tuple(x.to(torch.bfloat16) for x in torch.autograd.grad(o, inputs, do.float()))


def check_implementation(data, output) -> tuple[bool, str]:
    """Whether a submission is right, and the report if it is not."""
    q, k, v, do = data
    problem = adapters.sdpa(q, k, v, is_causal=True, do=do)
    report = sus_oracle.check(problem, dict(zip(("dq", "dk", "dv"), output)), recipe="flash-bf16")
    return bool(report), "" if report else str(report)
