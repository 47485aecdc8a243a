"""The plug-ins under ``examples`` accept a right kernel and refuse a wrong one."""

import importlib.util
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


def example(name):
    path = Path(__file__).resolve().parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_gpu_mode_task_judges_its_submissions():
    task = example("gpu_mode_reference")
    data = task.generate_input(1, 2, 24, 16, 0)
    dq, dk, dv = task.ref_kernel(data)
    assert task.check_implementation(data, (dq, dk, dv)) == (True, "")
    good, said = task.check_implementation(data, (dq, dk * 16**0.5, dv))
    assert not good and "times the truth" in said


def test_a_triton_bench_operator_judges_kernel_and_baseline(capsys):
    operator = example("triton_bench_accuracy").OracleAccuracy()
    operator.example_inputs = tuple(torch.randn(1, 2, 24, 16, requires_grad=True) for _ in range(3))
    operator.causal = True

    def kernel(causal=True):
        return torch.nn.functional.scaled_dot_product_attention(*operator.example_inputs, is_causal=causal)

    assert operator.accuracy(kernel, kernel)
    assert not operator.accuracy(kernel, lambda: kernel(False))
    assert capsys.readouterr().out.startswith("the baseline: ")
