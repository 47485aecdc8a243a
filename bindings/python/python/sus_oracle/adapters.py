"""The arguments of attention libraries as problems.

Each function has the names, the order, the defaults and the conventions of the library's own function, and the cotangent
``do`` beside them. An argument that a problem cannot express is a ``TypeError``; none is dropped. Arguments that do not
change what is computed (``deterministic``, ``return_lse``, ``max_seqlen_q``, ...) are taken. The problem keeps the layout
of the library, so that results go into :func:`sus_oracle.check` as the library returns them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._arrays import array_of
from ._problem import Problem

__all__ = ["cudnn", "flash_attn", "flash_attn_varlen", "flex", "jax", "sdpa", "transformer_engine"]


def _refuse(library: str, **arguments: Any) -> None:
    """Refuses every argument that is given: its default is None, False or 0."""
    for name, value in arguments.items():
        if value is not None and not (isinstance(value, (bool, int, float)) and value == 0):
            raise TypeError(f"{library}: argument '{name}' cannot be carried to a problem, found {_shown(value)}")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float, str)) else type(value).__name__


def _window(library: str, name: str, window: Any) -> list[int | None] | None:
    """(left, right), inclusive; a negative number is no limit."""
    try:
        left, right = (int(x) for x in window)
    except (TypeError, ValueError):
        raise TypeError(f"{library}: argument '{name}' is (left, right), found {window!r}") from None
    sides = [x if x >= 0 else None for x in (left, right)]
    return None if sides == [None, None] else sides


def _axes(library: str, count: int, **tensors: Any) -> None:
    for name, value in tensors.items():
        if len(np.shape(value)) != count:
            raise TypeError(f"{library}: argument '{name}' has {count} axes, found shape {list(np.shape(value))}")


def _softcap(softcap: float | None) -> float | None:
    return None if softcap is None or softcap == 0 else float(softcap)


def _heads(library: str, query: Any, key: Any, axis: int, enable_gqa: bool) -> None:
    hq, hk = np.shape(query)[axis], np.shape(key)[axis]
    if hq != hk and not enable_gqa:
        raise TypeError(
            f"{library}: argument 'enable_gqa' is needed for {hq} query heads and {hk} key heads, found False"
        )


def _bool_mask(library: str, name: str, mask: Any, keys: int) -> npt.NDArray[np.uint8]:
    """A boolean mask as four axes, of which the last has all keys."""
    kind, data = array_of(name, mask)
    if kind != "BOOL":
        raise TypeError(f"{library}: argument '{name}' is boolean, found {kind}")
    if data.ndim > 4:
        raise TypeError(f"{library}: argument '{name}' has at most 4 axes, found shape {list(data.shape)}")
    data = data.reshape((1,) * (4 - data.ndim) + data.shape)
    if data.shape[-1] == 1 != keys:
        data = np.broadcast_to(data, (*data.shape[:-1], keys))
    return data.astype(np.uint8)


def _bias(library: str, name: str, bias: Any, keys: int) -> Any:
    """A bias as four axes."""
    shape = list(np.shape(bias))
    if len(shape) > 4 or not shape or shape[-1] != keys:
        raise TypeError(f"{library}: argument '{name}' is of shape [B|1, H|1, Nq|1, {keys}], found {shape}")
    return bias.reshape((1,) * (4 - len(shape)) + tuple(shape))


def flash_attn(
    q: Any,
    k: Any,
    v: Any,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    *,
    do: Any = None,
) -> Problem:
    """``flash_attn_func`` of FlashAttention 2.1 and later: ``[B, S, H, D]``, aligned bottom-right, ``-1`` is no limit."""
    _axes("flash_attn", 4, q=q, k=k, v=v)
    _refuse("flash_attn", dropout_p=dropout_p)
    settings = {
        "scale": softmax_scale,
        "causal": bool(causal) or None,
        "window": _window("flash_attn", "window_size", window_size),
        "softcap": _softcap(softcap),
    }
    return Problem({"q": q, "k": k, "v": v, "do": do, "alibi_slopes": alibi_slopes}, settings, "bshd")


def flash_attn_varlen(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Any = None,
    *,
    seqused_q: Any = None,
    seqused_k: Any = None,
    do: Any = None,
) -> Problem:
    """``flash_attn_varlen_func``: ``[total, H, D]``, packed by cumulative lengths; each sequence is aligned bottom-right."""
    _axes("flash_attn_varlen", 3, q=q, k=k, v=v)
    _refuse("flash_attn_varlen", dropout_p=dropout_p, block_table=block_table)
    settings = {
        "scale": softmax_scale,
        "causal": bool(causal) or None,
        "window": _window("flash_attn_varlen", "window_size", window_size),
        "softcap": _softcap(softcap),
    }
    tensors = {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k}
    tensors |= {"seqused_q": seqused_q, "seqused_k": seqused_k, "alibi_slopes": alibi_slopes}
    return Problem({"q": q, "k": k, "v": v, "do": do, **tensors}, settings, "thd")


def sdpa(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    do: Any = None,
) -> Problem:
    """``torch.nn.functional.scaled_dot_product_attention``: ``[B, H, S, D]``, top-left; a boolean mask keeps where true."""
    _axes("sdpa", 4, query=query, key=key, value=value)
    _refuse("sdpa", dropout_p=dropout_p)
    _heads("sdpa", query, key, 1, enable_gqa)
    if attn_mask is not None and is_causal:
        raise TypeError("sdpa: arguments 'attn_mask' and 'is_causal' exclude each other, found both")
    tensors = {"q": query, "k": key, "v": value, "do": do}
    if attn_mask is not None:
        keys = np.shape(key)[2]
        if array_of("attn_mask", attn_mask).type == "BOOL":
            tensors["attn_mask"] = _bool_mask("sdpa", "attn_mask", attn_mask, keys)
        else:
            tensors["bias"] = _bias("sdpa", "attn_mask", attn_mask, keys)
    settings = {"scale": scale, "causal": bool(is_causal) or None, "alignment": "top-left" if is_causal else None}
    return Problem(tensors, settings, "bhsd")


def flex(
    query: Any,
    key: Any,
    value: Any,
    score_mod: Any = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    do: Any = None,
) -> Problem:
    """``flex_attention`` of PyTorch: ``[B, H, S, D]``. The ``mask_mod`` of a ``BlockMask`` is evaluated for every pair."""
    _axes("flex", 4, query=query, key=key, value=value)
    _refuse("flex", score_mod=score_mod, kernel_options=kernel_options)
    _heads("flex", query, key, 1, enable_gqa)
    tensors = {"q": query, "k": key, "v": value, "do": do}
    if block_mask is not None:
        tensors["attn_mask"] = _flex_mask(block_mask, np.shape(query), np.shape(key))
    return Problem(tensors, {"scale": scale}, "bhsd")


def _flex_mask(block_mask: Any, query: tuple[int, ...], key: tuple[int, ...]) -> Any:
    """The pairs that the mask keeps: those of ``mask_mod`` in the blocks that the kernel visits."""
    mask_mod = getattr(block_mask, "mask_mod", None)
    if mask_mod is None:
        raise TypeError(f"flex: argument 'block_mask' is a BlockMask, found {type(block_mask).__name__}")
    torch = sys.modules["torch"]
    b, h = block_mask.shape[:2]
    nq, nk = query[2], key[2]
    device = block_mask.kv_num_blocks.device
    at = [torch.arange(size, device=device) for size in (b, h, nq, nk)]
    index = torch.meshgrid(*at, indexing="ij")
    seen = torch.vmap(mask_mod)(*(x.reshape(-1) for x in index)).reshape(b, h, nq, nk)
    block = block_mask.BLOCK_SIZE
    rows, columns = block if isinstance(block, (tuple, list)) else (block, block)
    visited = block_mask.to_dense().bool()
    visited = visited.repeat_interleave(rows, 2).repeat_interleave(columns, 3)[:, :, :nq, :nk]
    return (seen & visited).to(torch.uint8)


def cudnn(
    q: Any,
    k: Any,
    v: Any,
    attn_scale: float | None = None,
    bias: Any = None,
    use_alibi_mask: bool = False,
    use_padding_mask: bool = False,
    seq_len_q: Any = None,
    seq_len_kv: Any = None,
    use_causal_mask: bool = False,
    use_causal_mask_bottom_right: bool = False,
    sliding_window_length: int | None = None,
    diagonal_alignment: Any = None,
    diagonal_band_left_bound: int | None = None,
    diagonal_band_right_bound: int | None = None,
    dropout: Any = None,
    score_mod: Any = None,
    is_inference: bool | None = None,
    generate_stats: bool | None = None,
    *,
    sink_token: Any = None,
    do: Any = None,
    layout: str = "bhsd",
    **others: Any,
) -> Problem:
    """``sdpa`` of cudnn-frontend, in the order ``[B, H, S, D]`` of its dimensions.

    The scale is 1 unless it is given. The left bound (and ``sliding_window_length``, its older name) counts the key on the
    diagonal: ``left_bound = 1`` sees that key alone. The right bound does not: 0 is causal.
    """
    _axes("cudnn", 4, q=q, k=k, v=v)
    _refuse("cudnn", dropout=dropout, score_mod=score_mod, use_alibi_mask=use_alibi_mask, **others)
    if sliding_window_length is not None and diagonal_band_left_bound is not None:
        raise TypeError("cudnn: arguments 'sliding_window_length' and 'diagonal_band_left_bound' are one, found both")
    named = str(getattr(diagonal_alignment, "name", diagonal_alignment or "TOP_LEFT")).upper()
    if named not in ("TOP_LEFT", "BOTTOM_RIGHT"):
        raise TypeError(
            f"cudnn: argument 'diagonal_alignment' is TOP_LEFT or BOTTOM_RIGHT, found {diagonal_alignment!r}"
        )
    if use_causal_mask and (use_causal_mask_bottom_right or named == "BOTTOM_RIGHT"):
        raise TypeError("cudnn: argument 'use_causal_mask' aligns top-left, found a bottom-right alignment beside it")
    bottom_right = use_causal_mask_bottom_right or named == "BOTTOM_RIGHT"
    bound = diagonal_band_left_bound if diagonal_band_left_bound is not None else sliding_window_length
    if bound is not None and bound < 1:
        raise TypeError(f"cudnn: the left bound counts the diagonal and is at least 1, found {bound}")
    causal = use_causal_mask or use_causal_mask_bottom_right
    left = None if bound is None else bound - 1
    right = diagonal_band_right_bound
    if right is not None and right < 0:
        raise TypeError(f"cudnn: argument 'diagonal_band_right_bound' is at least 0, found {right}")
    banded = causal or left is not None or right is not None
    settings: dict[str, Any] = {
        "scale": 1.0 if attn_scale is None else float(attn_scale),
        "causal": causal or None,
        "window": None if left is None and right is None else [left, right],
        "alignment": None if not banded or bottom_right else "top-left",
    }
    tensors = {"q": q, "k": k, "v": v, "do": do, "sink": sink_token}
    if bias is not None:
        tensors["bias"] = _bias("cudnn", "bias", bias, np.shape(k)[2])
    if use_padding_mask != (seq_len_q is not None or seq_len_kv is not None):
        raise TypeError(
            "cudnn: arguments 'use_padding_mask', 'seq_len_q' and 'seq_len_kv' belong together, found only a part"
        )
    tensors |= {"lengths_q": _vector(seq_len_q), "lengths_k": _vector(seq_len_kv)}
    if sink_token is not None:
        tensors["sink"] = _vector(sink_token)
    return Problem(tensors, settings, layout)


def _vector(value: Any) -> Any:
    """``[B, 1, 1, 1]`` or ``[1, H, 1, 1]`` as one axis."""
    return None if value is None else value.reshape(-1)


#: The mask types of Transformer Engine: causal, and aligned bottom-right.
_TE_MASKS = {
    "no_mask": (False, None),
    "padding": (False, None),
    "arbitrary": (False, None),
    "causal": (True, False),
    "padding_causal": (True, False),
    "causal,padding": (True, False),
    "causal_bottom_right": (True, True),
    "padding_causal_bottom_right": (True, True),
}


def transformer_engine(
    query_layer: Any,
    key_layer: Any,
    value_layer: Any,
    attention_mask: Any = None,
    qkv_format: str = "sbhd",
    cu_seqlens_q: Any = None,
    cu_seqlens_kv: Any = None,
    cu_seqlens_q_padded: Any = None,
    cu_seqlens_kv_padded: Any = None,
    max_seqlen_q: int | None = None,
    max_seqlen_kv: int | None = None,
    attn_mask_type: str = "causal",
    window_size: Sequence[int] | None = None,
    bottom_right_diagonal: bool | None = None,
    checkpoint_core_attention: bool = False,
    core_attention_bias_type: str = "no_bias",
    core_attention_bias: Any = None,
    alibi_slopes: Any = None,
    fast_zero_fill: bool = True,
    inference_params: Any = None,
    pad_between_seqs: bool | None = None,
    *,
    softmax_scale: float | None = None,
    attention_dropout: float = 0.0,
    softmax_type: str = "vanilla",
    softmax_offset: Any = None,
    deterministic: bool = False,
    do: Any = None,
) -> Problem:
    """``DotProductAttention`` of Transformer Engine: ``qkv_format`` is the layout; a boolean mask *hides* where true.

    ``causal`` aligns top-left, ``causal_bottom_right`` bottom-right. The module's dropout is 0.1 by default; only 0 can
    be carried, and it is the default here. ``do`` may have its last two axes merged, as the module's output.
    """
    name = "transformer_engine"
    if qkv_format not in ("sbhd", "bshd", "thd"):
        raise TypeError(f"{name}: argument 'qkv_format' is sbhd, bshd or thd, found {qkv_format!r}")
    if attn_mask_type not in _TE_MASKS:
        raise TypeError(f"{name}: argument 'attn_mask_type' is one of {', '.join(_TE_MASKS)}, found {attn_mask_type!r}")
    _axes(name, 3 if qkv_format == "thd" else 4, query_layer=query_layer, key_layer=key_layer, value_layer=value_layer)
    _refuse(
        name,
        attention_dropout=attention_dropout,
        inference_params=inference_params,
        pad_between_seqs=pad_between_seqs,
        cu_seqlens_q_padded=cu_seqlens_q_padded,
        cu_seqlens_kv_padded=cu_seqlens_kv_padded,
    )
    causal, aligned = _TE_MASKS[attn_mask_type]
    keys = np.shape(key_layer)[0 if qkv_format in ("sbhd", "thd") else 1]
    queries = np.shape(query_layer)[0 if qkv_format in ("sbhd", "thd") else 1]
    square = qkv_format != "thd" and keys == queries
    if bottom_right_diagonal is not None and aligned is not None and bottom_right_diagonal != aligned and not square:
        raise TypeError(
            f"{name}: argument 'bottom_right_diagonal' contradicts attn_mask_type {attn_mask_type!r}, found {bottom_right_diagonal}"
        )
    bottom_right = aligned if aligned is not None else bottom_right_diagonal is not False
    tensors = {"q": query_layer, "k": key_layer, "v": value_layer, "do": _unmerged(do, query_layer, value_layer)}
    settings: dict[str, Any] = {"scale": softmax_scale, "causal": causal or None}
    window = None if window_size is None else _window(name, "window_size", window_size)
    if window is not None and not (causal and window == [None, 0]):
        settings["window"] = window
    if not bottom_right and (causal or window is not None):
        settings["alignment"] = "top-left"
    padded = "padding" in attn_mask_type
    if qkv_format == "thd":
        tensors |= {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_kv}
        _refuse(name, attention_mask=attention_mask)
    elif padded:
        lengths = _te_lengths(attention_mask, cu_seqlens_q, cu_seqlens_kv)
        tensors["lengths_q"], tensors["lengths_k"] = lengths
    elif attn_mask_type == "arbitrary":
        if attention_mask is None:
            raise TypeError(f"{name}: argument 'attention_mask' is needed for attn_mask_type 'arbitrary', found none")
        tensors["attn_mask"] = 1 - _bool_mask(name, "attention_mask", attention_mask, keys)
    else:
        _refuse(name, attention_mask=attention_mask, cu_seqlens_q=cu_seqlens_q, cu_seqlens_kv=cu_seqlens_kv)
    if core_attention_bias_type == "post_scale_bias":
        if core_attention_bias is None:
            raise TypeError(f"{name}: argument 'core_attention_bias' is needed for its type, found none")
        tensors["bias"] = _bias(name, "core_attention_bias", core_attention_bias, keys)
    elif core_attention_bias_type == "alibi":
        if alibi_slopes is None:
            raise TypeError(f"{name}: argument 'alibi_slopes' is needed for the bias type 'alibi', found none")
        tensors["alibi_slopes"] = alibi_slopes
    elif core_attention_bias_type != "no_bias":
        raise TypeError(
            f"{name}: argument 'core_attention_bias_type' cannot be carried, found {core_attention_bias_type!r}"
        )
    if core_attention_bias_type != "post_scale_bias":
        _refuse(name, core_attention_bias=core_attention_bias)
    if core_attention_bias_type != "alibi":
        _refuse(name, alibi_slopes=alibi_slopes)
    tensors["sink"] = _te_sink(softmax_type, softmax_offset, np.shape(query_layer)[-2])
    return Problem(tensors, settings, qkv_format)


def _unmerged(do: Any, query: Any, value: Any) -> Any:
    """``[..., H E]`` as ``[..., H, E]``."""
    if do is None or len(np.shape(do)) == len(np.shape(query)):
        return do
    return do.reshape((*np.shape(query)[:-1], np.shape(value)[-1]))


def _te_lengths(attention_mask: Any, cu_seqlens_q: Any, cu_seqlens_kv: Any) -> list[npt.NDArray[np.int32]]:
    """The lengths of padded sequences, from cumulative lengths or from masks that hide the end."""
    if cu_seqlens_q is not None and cu_seqlens_kv is not None:
        both = [array_of("cu_seqlens", x).data for x in (cu_seqlens_q, cu_seqlens_kv)]
        return [np.diff(x).astype(np.int32) for x in both]
    if attention_mask is None:
        raise TypeError(
            "transformer_engine: argument 'attention_mask' or 'cu_seqlens_q' and 'cu_seqlens_kv' is needed, found none"
        )
    masks = attention_mask if isinstance(attention_mask, (tuple, list)) else (attention_mask, attention_mask)
    lengths = []
    for mask in masks:
        data = array_of("attention_mask", mask).data.astype(bool)
        hidden = data.reshape(data.shape[0], -1)
        if hidden.shape[1] != data.shape[-1] or (np.diff(hidden.astype(np.int8), axis=1) < 0).any():
            raise TypeError(
                "transformer_engine: argument 'attention_mask' cannot be carried, found one that hides more than the end"
            )
        lengths.append((~hidden).sum(axis=1).astype(np.int32))
    return lengths


def _te_sink(softmax_type: str, softmax_offset: Any, heads: int) -> Any:
    if softmax_type == "vanilla":
        _refuse("transformer_engine", softmax_offset=softmax_offset)
        return None
    if softmax_type == "off-by-one":
        return np.zeros(heads, np.float32)
    if softmax_type == "learnable" and softmax_offset is not None:
        return softmax_offset.reshape(-1)
    raise TypeError(
        f"transformer_engine: argument 'softmax_type' cannot be carried without its offset, found {softmax_type!r}"
    )


def jax(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | Sequence[int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
    do: Any = None,
) -> Problem:
    """``jax.nn.dot_product_attention``: ``[B, T, N, H]`` (also called bshd), top-left; a boolean mask keeps where true."""
    _axes("jax", 4, query=query, key=key, value=value)
    tensors = {"q": query, "k": key, "v": value, "do": do}
    keys = np.shape(key)[1]
    if mask is not None:
        tensors["attn_mask"] = _bool_mask("jax", "mask", mask, keys)
    if bias is not None:
        tensors["bias"] = _bias("jax", "bias", bias, keys)
    tensors |= {"lengths_q": query_seq_lengths, "lengths_k": key_value_seq_lengths}
    window = None
    if local_window_size is not None:
        both = local_window_size if not isinstance(local_window_size, int) else (local_window_size,) * 2
        window = _window("jax", "local_window_size", both)
    aligned = "top-left" if is_causal or window is not None else None
    settings = {"scale": scale, "causal": bool(is_causal) or None, "window": window, "alignment": aligned}
    return Problem(tensors, settings, "bshd")
