"""The files of `problems`: their cotangents are derivatives, and the library reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from headline import problems
from headline.attention import dense
from headline.checkpoints import save_model
from headline.errors import InputError
from headline.gpt import Config, initial_parameters, token_losses

CONFIG = Config(layers=2, width=16, heads=2, kv_heads=2, head_dim=8, hidden=32, rotary_dim=8)


def test_a_cotangent_is_the_derivative_by_the_output_of_the_layer() -> None:
    parameters = {name: x.detach().double().requires_grad_() for name, x in initial_parameters(CONFIG, 0, torch.device("cpu")).items()}
    tokens = torch.randint(0, 256, (1, 13), generator=torch.Generator().manual_seed(1))
    found = problems.layer_problems(CONFIG, parameters, tokens)
    for layer, problem in enumerate(found):
        direction = torch.randn(problem["do"].shape, generator=torch.Generator().manual_seed(2))

        def loss(step: float, at: int = layer, way: torch.Tensor = direction) -> float:
            def attend(number, q, k, v):
                return dense(number, q, k, v) + (step * way if number == at else 0)

            return float(token_losses(CONFIG, parameters, tokens, attend).double().sum().detach())

        expected = float((problem["do"] * direction).sum())
        # Central differences: 12 losses of 5.5 round to float32 by 3e-7 each, 1e-6 together; the step's own error was 3e-3 at five times the step.
        assert (loss(0.01) - loss(-0.01)) / 0.02 == pytest.approx(expected, rel=0.01, abs=3e-4)


def test_the_library_reads_the_files(tmp_path: Path) -> None:
    sus_oracle = pytest.importorskip("sus_oracle")
    from safetensors import safe_open

    save_model(tmp_path / "m.safetensors", CONFIG, initial_parameters(CONFIG, 0, torch.device("cpu")))
    (tmp_path / "text.txt").write_text("def f(x):\n    return x\n" * 100)
    words = ["--model", str(tmp_path / "m.safetensors"), "--text", str(tmp_path / "text.txt"), "--whole", "--n", "20", "--windows", "3", "--device", "cpu"]
    problems.main([*words, "--out", str(tmp_path / "out")])
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["layer0.safetensors", "layer1.safetensors"]
    with safe_open(files[1], "np") as opened:
        assert json.loads(opened.metadata()["sus_oracle"]) == {"causal": True, "scale": 8**-0.5}
        problem = {name: opened.get_tensor(name) for name in ("q", "k", "v", "do")}
    assert problem["do"].shape == (3, 2, 20, 8)
    assert abs(sus_oracle.grad(problem, causal=True)["dv"]).max() > 0
    with pytest.raises(InputError, match="expected a new folder"):
        problems.main([*words, "--out", str(tmp_path / "out")])
