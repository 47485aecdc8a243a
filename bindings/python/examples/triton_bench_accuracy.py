"""The ``accuracy`` of an attention operator of TritonBench by the verdict, forward and backward pass."""

from collections.abc import Callable

import sus_oracle
import torch
from sus_oracle import adapters


class OracleAccuracy:
    """A base class to put before ``BenchmarkOperator``. The operator has ``example_inputs`` (q, k, v) and ``causal``."""

    example_inputs: tuple[torch.Tensor, ...]
    causal: bool

    def accuracy(self, fn: Callable, baseline_fn: Callable) -> bool:
        """Both benchmarks are held against the same truth; the baseline is not assumed to be right."""
        for name, run in (("the kernel", fn), ("the baseline", baseline_fn)):
            inputs = [x for x in self.example_inputs[:3]]
            o = run()
            do = torch.ones_like(o)
            dq, dk, dv = torch.autograd.grad(o, inputs, do, retain_graph=True)
            problem = adapters.sdpa(*inputs, is_causal=self.causal, do=do)
            report = sus_oracle.check(problem, {"o": o, "dq": dq, "dk": dk, "dv": dv})
            if not report:
                print(f"{name}: {report}")
                return False
        return True
