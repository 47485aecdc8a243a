"""The layouts of GPT-2, Llama and GPT-NeoX: random small models that transformers writes and runs, against our forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from headline.attention import dense
from headline.checkpoints import load_model, save_model
from headline.errors import InputError
from headline.gpt import Config, forward, initial_parameters


def gpt2(transformers):
    config = transformers.GPT2Config(vocab_size=61, n_positions=32, n_embd=24, n_layer=2, n_head=3)
    return transformers.GPT2LMHeadModel(config)


def llama(transformers):
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def neox(transformers, parallel: bool = True):
    config = transformers.GPTNeoXConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=32,
        use_parallel_residual=parallel,
    )  # fmt: skip
    return transformers.GPTNeoXForCausalLM(config)


@pytest.mark.parametrize("make", [gpt2, llama, neox, lambda t: neox(t, parallel=False)], ids=["gpt2", "llama", "neox", "neox-serial"])
def test_a_foreign_checkpoint_has_the_logits_of_its_own_program(make, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = make(transformers).eval()
    with torch.no_grad():
        for x in model.parameters():  # biases of 0 and norms of 1 would hide a mistake
            x.add_(0.2 * torch.randn_like(x))
    model.save_pretrained(tmp_path)
    tokens = torch.randint(0, 61, (2, 20))
    config, parameters = load_model(tmp_path, torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(forward(config, parameters, tokens, dense), model(tokens).logits, rtol=1e-4, atol=1e-4)


def test_our_own_file_comes_back(tmp_path: Path) -> None:
    config = Config(layers=1, width=16, heads=2, kv_heads=2, head_dim=8, hidden=32, rotary_dim=8)
    parameters = initial_parameters(config, 3, torch.device("cpu"))
    save_model(tmp_path / "m.safetensors", config, parameters)
    again, loaded = load_model(tmp_path / "m.safetensors", torch.device("cpu"))
    assert again == config and loaded.keys() == parameters.keys()
    assert all(torch.equal(loaded[name], parameters[name]) for name in loaded)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"no header")
    with pytest.raises(InputError, match="expected a safetensors file"):
        load_model(tmp_path / "m.safetensors", torch.device("cpu"))
    with pytest.raises(InputError, match="found none"):
        load_model(tmp_path / "nothing", torch.device("cpu")) if (tmp_path / "nothing").mkdir() is None else None
