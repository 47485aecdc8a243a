"""Weights as safetensors files: our own models, and the layouts of GPT-2, Llama and Pythia (GPT-NeoX)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import InputError
from .gpt import Config, Parameters

Tensors = dict[str, torch.Tensor]

#: The activations that the files of transformers name, and ours.
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu": "gelu", "silu": "swiglu"}


def save_model(path: Path, config: Config, parameters: Parameters) -> None:
    """Float32 weights under our names; the configuration is the metadata entry `headline`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: x.detach().float().cpu().contiguous() for name, x in parameters.items()}
    save_file(tensors, path, {"headline": json.dumps(asdict(config), sort_keys=True)})


def load_model(path: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Config, Parameters]:
    """A file, several files' folder, or a folder with `model.safetensors`; `config.json` beside the weights where they are foreign."""
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    tensors: Tensors = {}
    about: dict[str, str] = {}
    if not files:
        raise InputError(f"option 'model': expected a safetensors file in {str(path)!r}, found none")
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                about |= opened.metadata() or {}
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"option 'model': expected a safetensors file, found {str(file)!r}: {error}") from None
    if "headline" in about:
        config, parameters = Config(**json.loads(about["headline"])), tensors
    else:
        try:
            settings = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"option 'model': expected a config.json in {str(folder)!r}: {error}") from None
        config, parameters = translate(settings, tensors)
    return config, {name: x.to(device, dtype).contiguous().requires_grad_() for name, x in parameters.items()}


def translate(settings: dict[str, Any], tensors: Tensors) -> tuple[Config, Parameters]:
    """A foreign layout, told by the names of its tensors, as ours."""
    bare = {name.removeprefix("transformer.").removeprefix("model.").removeprefix("gpt_neox."): x for name, x in tensors.items()}
    try:
        if "h.0.attn.c_attn.weight" in bare:
            return _gpt2(settings, bare)
        if "layers.0.attention.query_key_value.weight" in bare:
            return _neox(settings, bare)
        if "layers.0.self_attn.q_proj.weight" in bare:
            return _llama(settings, bare)
        if "blocks.0.wq.weight" in bare:
            return _ours(settings), bare
    except KeyError as error:
        raise InputError(f"the model: expected an entry or a tensor {error}, found none") from None
    raise InputError(f"the model: expected the tensors of GPT-2, Llama, GPT-NeoX or ours, found {sorted(tensors)[:3]}")


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise InputError(f"the model's activation: expected one of {', '.join(ACTIVATIONS)}, found {name!r}")
    return ACTIVATIONS[name]


def _refuse(settings: dict[str, Any], name: str, *allowed: object) -> None:
    if settings.get(name, allowed[0]) not in allowed:
        raise InputError(f"the model's entry {name!r}: expected {allowed[0]!r}, found {settings[name]!r}")


def _ours(settings: dict[str, Any]) -> Config:
    """The `config.json` of the byte-level model that `fixtures/real` comes from."""
    heads, dim = settings["heads"], settings["head_dim"]
    return Config(
        settings["vocab"], settings["layers"], settings["d_model"], heads, heads, dim, settings["mlp_hidden"],
        rotary_dim=dim, context=settings["max_n"],
    )  # fmt: skip


def _gpt2(settings: dict[str, Any], bare: Tensors) -> tuple[Config, Parameters]:
    """`y = x W + b` with `W` `[in, out]`; the columns of `c_attn` are q, k, v, each heads by features."""
    for name, allowed in (("scale_attn_by_inverse_layer_idx", False), ("scale_attn_weights", True)):
        _refuse(settings, name, allowed)
    width, heads = settings["n_embd"], settings["n_head"]
    config = Config(
        settings["vocab_size"], settings["n_layer"], width, heads, heads, width // heads, settings.get("n_inner") or 4 * width,
        "layer", settings["layer_norm_epsilon"], "learned", 0, 1.0, settings["n_positions"],
        _activation(settings["activation_function"]),
    )  # fmt: skip
    found = {"emb.weight": bare["wte.weight"], "pos.weight": bare["wpe.weight"]}
    for layer in range(config.layers):
        theirs, ours = f"h.{layer}.", f"blocks.{layer}."
        for part in ("weight", "bias"):
            for name, old in (("ln1", "ln_1"), ("ln2", "ln_2"), ("wo", "attn.c_proj"), ("w1", "mlp.c_fc"), ("w2", "mlp.c_proj")):
                x = bare[f"{theirs}{old}.{part}"]
                found[f"{ours}{name}.{part}"] = x.T if part == "weight" and "c_" in old else x
            for name, x in zip(("wq", "wk", "wv"), bare[f"{theirs}attn.c_attn.{part}"].split(width, -1), strict=True):
                found[f"{ours}{name}.{part}"] = x.T if part == "weight" else x
    return config, found | _ends(bare, "ln_f", "lm_head.weight", "wte.weight")


def _llama(settings: dict[str, Any], bare: Tensors) -> tuple[Config, Parameters]:
    """`[out, in]` weights, grouped key heads, a gated MLP; the rotation pairs `(i, i + D / 2)`."""
    _refuse(settings, "rope_scaling", None)
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    dim = settings.get("head_dim") or width // heads
    config = Config(
        settings["vocab_size"], settings["num_hidden_layers"], width, heads, settings.get("num_key_value_heads", heads), dim,
        settings["intermediate_size"], "rms", settings["rms_norm_eps"], "rotary", dim, _base(settings),
        settings["max_position_embeddings"], _activation(settings["hidden_act"]),
    )  # fmt: skip
    names = {
        "ln1": "input_layernorm", "ln2": "post_attention_layernorm", "wq": "self_attn.q_proj", "wk": "self_attn.k_proj",
        "wv": "self_attn.v_proj", "wo": "self_attn.o_proj", "w1": "mlp.gate_proj", "w3": "mlp.up_proj", "w2": "mlp.down_proj",
    }  # fmt: skip
    found = {"emb.weight": bare["embed_tokens.weight"]}
    for layer in range(config.layers):
        for ours, theirs in names.items():
            found[f"blocks.{layer}.{ours}.weight"] = bare[f"layers.{layer}.{theirs}.weight"]
            if f"layers.{layer}.{theirs}.bias" in bare:
                found[f"blocks.{layer}.{ours}.bias"] = bare[f"layers.{layer}.{theirs}.bias"]
    return config, found | _ends(bare, "norm", "lm_head.weight", "embed_tokens.weight")


def _neox(settings: dict[str, Any], bare: Tensors) -> tuple[Config, Parameters]:
    """The rows of `query_key_value` are heads, in each q, k, v; a part of the features is rotated; `embed_out` is the head."""
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    dim = width // heads
    config = Config(
        settings["vocab_size"], settings["num_hidden_layers"], width, heads, heads, dim, settings["intermediate_size"],
        "layer", settings["layer_norm_eps"], "rotary", int(dim * settings.get("rotary_pct", 0.25)), _base(settings),
        settings["max_position_embeddings"], _activation(settings["hidden_act"]), settings.get("use_parallel_residual", True),
    )  # fmt: skip
    names = {
        "ln1": "input_layernorm", "ln2": "post_attention_layernorm", "wo": "attention.dense",
        "w1": "mlp.dense_h_to_4h", "w2": "mlp.dense_4h_to_h",
    }  # fmt: skip
    found = {"emb.weight": bare["embed_in.weight"]}
    for layer in range(config.layers):
        for part in ("weight", "bias"):
            for ours, theirs in names.items():
                found[f"blocks.{layer}.{ours}.{part}"] = bare[f"layers.{layer}.{theirs}.{part}"]
            fused = bare[f"layers.{layer}.attention.query_key_value.{part}"].unflatten(0, (heads, 3, dim))
            for name, x in zip(("wq", "wk", "wv"), fused.unbind(1), strict=True):
                found[f"blocks.{layer}.{name}.{part}"] = x.flatten(0, 1)
    return config, found | _ends(bare, "final_layer_norm", "embed_out.weight", "embed_in.weight")


def _base(settings: dict[str, Any]) -> float:
    return float(settings.get("rope_theta", settings.get("rotary_emb_base", 10000)))


def _ends(bare: Tensors, norm: str, head: str, embedding: str) -> Parameters:
    """The last norm, and the head unless it is the embedding itself."""
    found = {f"lnf.{part}": bare[f"{norm}.{part}"] for part in ("weight", "bias") if f"{norm}.{part}" in bare}
    if head in bare and not torch.equal(bare[head], bare[embedding]):
        found["head.weight"] = bare[head]
    return found
