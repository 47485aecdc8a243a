"""Problems and candidates: arrays in the layouts of libraries, with settings, as the bytes that the compiled module reads."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from . import _core
from ._arrays import Array, array_of, from_bytes, is_array, to_bytes
from ._core import InputError

#: The order of results; others follow.
ORDER = ("o", "lse", "dq", "dk", "dv", "dkv", "dbias", "dsink", "dslopes")

#: The layouts of random words, which have another option.
WORDS = ("coord4", "linear4", "linear1", "jax-threefry", "arrival")

LAYOUTS = ("bhsd", "bshd", "sbhd", "thd")

#: Tensors with a head, a sequence and a feature axis: these have the axes that a layout names.
HEADS = {"q", "k", "v", "do", "o", "dq", "dk", "dv", "dkv"}
#: Tensors with a number for each head and query: ``[B, H, S]`` in every layout, ``[H, T]`` in thd.
ROWS = {"lse", "dlse"}

#: The axes of [B, H, S, D] in the tensors of a layout.
AXES = {"bhsd": (0, 1, 2, 3), "bshd": (0, 2, 1, 3), "sbhd": (1, 2, 0, 3)}

Arrays = Mapping[str, Any]
PathLike = Union[str, "os.PathLike[str]"]
ProblemLike = Union[Arrays, PathLike]


class Problem(dict[str, Any]):
    """Arrays by name, with the settings and the layout that belong to them. The adapters make it."""

    settings: dict[str, Any]
    layout: str

    def __init__(self, arrays: Arrays, settings: Mapping[str, Any] | None = None, layout: str = "bhsd") -> None:
        super().__init__({name: value for name, value in arrays.items() if value is not None})
        self.settings = {key: value for key, value in (settings or {}).items() if value is not None}
        self.layout = layout

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(np.shape(value))}" for name, value in self.items())
        return f"Problem({shapes}; {self.settings}; layout={self.layout!r})"


class Packed(NamedTuple):
    """A problem ready for the compiled module."""

    source: bytes | str
    #: Settings given beside it, as JSON.
    settings: str
    layout: str
    #: Tensors that were made here and have no place in results.
    hidden: frozenset[str]
    #: The heads and the queries, to tell the axes of ``lse``.
    rows: tuple[int, int, int] | None


def expect_layout(layout: str) -> str:
    if layout not in LAYOUTS:
        hint = " (the layout of random words is the option 'words')" if layout in WORDS else ""
        raise InputError(f"option 'layout': expected one of {', '.join(LAYOUTS)}, found {layout!r}{hint}")
    return layout


def layout_of(problem: ProblemLike, layout: str | None) -> str:
    """The layout that was asked for, else that of the adapter, else bhsd."""
    if layout is None:
        layout = problem.layout if isinstance(problem, Problem) else "bhsd"
    return expect_layout(layout)


def _base_name(name: str) -> str:
    """The tensor whose axes a stored one has: those of ``expected/dq`` are those of ``dq``."""
    prefix, _, rest = name.partition("/")
    return rest.rpartition("/")[2] if prefix in ("expected", "bound", "variance") else name


def to_bhsd(
    name: str, data: npt.NDArray[Any], layout: str, rows: tuple[int, int, int] | None, runs: bool
) -> npt.NDArray[Any]:
    """A tensor of a layout as [B, H, S, D]. With ``runs`` it may have one more leading axis."""
    base = _base_name(name)
    if layout == "bhsd" or base not in HEADS | ROWS:
        return data
    axes = {"bshd": "[B, S, H, D]", "sbhd": "[S, B, H, D]", "thd": "[total, H, D]"}[layout]
    count = 3 if layout == "thd" else 4
    if base in ROWS:
        count -= 1
        axes = "[H, total]" if layout == "thd" else "[B, H, S]"
    lead = data.ndim - count
    if lead not in ((0, 1) if runs else (0,)):
        raise InputError(
            f"tensor '{name}': expected {count} axes {axes} in layout {layout}, found shape {list(data.shape)}"
        )
    if base in ROWS:
        return _rows_to_bhs(data, layout, rows, lead)
    if layout == "thd":
        tokens: npt.NDArray[Any] = np.expand_dims(np.swapaxes(data, lead, lead + 1), lead)
        return tokens
    order = [lead + axis for axis in AXES[layout]]
    return np.transpose(data, [*range(lead), *order])


def _rows_to_bhs(data: npt.NDArray[Any], layout: str, rows: tuple[int, int, int] | None, lead: int) -> npt.NDArray[Any]:
    """``lse`` as [B, H, S]: FlashAttention has it so in every layout; [B, S, H] and [S, B, H] are told by their shape."""
    shape = data.shape[lead:]
    if layout == "thd":
        if rows is not None and shape != rows[1:] and shape == (rows[2], rows[1]):
            data = np.swapaxes(data, lead, lead + 1)
        return np.expand_dims(data, lead)
    if rows is not None and shape != rows:
        b, h, s = rows
        if layout == "bshd" and shape == (b, s, h):
            return np.swapaxes(data, lead + 1, lead + 2)
        if layout == "sbhd" and shape == (s, b, h):
            return np.moveaxis(data, lead, lead + 2)
    return data


def from_bhsd(name: str, data: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """A result as a tensor of a layout."""
    if layout == "thd" and name in HEADS:
        return np.ascontiguousarray(data[0].swapaxes(0, 1))
    if layout == "thd" and name in ROWS:
        return np.ascontiguousarray(data[0])
    if layout != "bhsd" and name in HEADS:
        return np.ascontiguousarray(np.transpose(data, np.argsort(AXES[layout])))
    return data


def rows_of(arrays: Mapping[str, Array], layout: str) -> tuple[int, int, int] | None:
    """Batch, query heads and queries of a problem, from ``q``."""
    q = arrays.get("q")
    if q is None or q.data.ndim != (3 if layout == "thd" else 4):
        return None
    shape = q.data.shape
    if layout == "thd":
        return (1, shape[1], shape[0])
    b, h, s = (shape[axis] for axis in AXES[layout][:3])
    return (b, h, s)


def plain_value(key: str, value: Any) -> Any:
    """A setting as JSON has it: NumPy numbers as numbers, tuples as lists, an infinite budget by its name."""
    if is_array(value) and not hasattr(value, "__len__"):
        value = value.item()
    if is_array(value):
        value = array_of(key, value).data.tolist()
    if isinstance(value, (list, tuple)):
        return [plain_value(key, item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if key == "c" and value > 0 else None if key == "window" else str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"metadata key '{key}': expected a number, a text or a list, found {type(value).__name__}")


def settings_json(settings: Mapping[str, Any]) -> str:
    """Settings as JSON. The layout of the random words is ``words`` here: ``layout`` is that of the tensors."""
    named = {"layout" if key == "words" else key: value for key, value in settings.items() if value is not None}
    values = {key: plain_value(key, value) for key, value in named.items()}
    try:
        return json.dumps(values, allow_nan=False)
    except ValueError as error:
        raise InputError("metadata: expected finite numbers, found NaN or infinity") from error


def _split(problem: Arrays, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The tensors of a problem, its own settings, and those that are given beside it."""
    own = dict(problem.settings) if isinstance(problem, Problem) else {}
    tensors = {}
    for name, value in problem.items():
        if not isinstance(name, str):
            raise InputError(f"problem: expected names of tensors, found {name!r}")
        if value is None:
            continue
        if isinstance(value, (bool, int, float, str)) or (is_array(value) and len(np.shape(value)) == 0):
            own[name] = value
        else:
            tensors[name] = value
    beside = {}
    for key, value in settings.items():
        if key in TENSOR_SETTINGS and value is not None:
            if key in tensors:
                raise InputError(f"tensor '{key}': expected once, found twice")
            tensors[key] = value
        else:
            beside[key] = value
    return tensors, own, beside


#: Operands that may be given as keywords, beside the settings.
TENSOR_SETTINGS = {
    "attn_mask",
    "block_mask",
    "indices",
    "bias",
    "sink",
    "dlse",
    "lengths_q",
    "lengths_k",
    "cu_seqlens_q",
    "cu_seqlens_k",
    "seqused_q",
    "seqused_k",
    "dropout_mask",
    "alibi_slopes",
}


def pack_problem(problem: ProblemLike, layout: str | None, settings: Mapping[str, Any]) -> Packed:
    """A problem for the compiled module. A file is always in bhsd; the layout is then that of the arrays beside it."""
    named = layout_of(problem, layout)
    if isinstance(problem, (str, os.PathLike)):
        beside = {key: value for key, value in settings.items() if value is not None}
        wrong = [key for key in beside if key in TENSOR_SETTINGS]
        if wrong:
            raise InputError(f"option '{wrong[0]}': expected a problem in memory, found a file")
        return Packed(os.fspath(problem), settings_json(beside), named, frozenset(), None)
    if not isinstance(problem, Mapping):
        raise InputError(f"problem: expected a dict of arrays or a path, found {type(problem).__name__}")
    own_layout = problem.layout if isinstance(problem, Problem) else named
    tensors, own, beside = _split(problem, settings)
    arrays = {name: array_of(name, value) for name, value in tensors.items()}
    rows = rows_of(arrays, own_layout)
    if own_layout == "thd":
        _packed_sequences(arrays, own, beside)
    hidden = _mask_as_bias(arrays)
    arrays = {name: Array(kind, to_bhsd(name, data, own_layout, rows, False)) for name, (kind, data) in arrays.items()}
    return Packed(to_bytes(arrays, settings_json(own)), settings_json(beside), named, hidden, rows)


def _packed_sequences(arrays: dict[str, Array], own: dict[str, Any], beside: Mapping[str, Any]) -> None:
    """Turns ``cu_seqlens_*`` that leave no gap into the settings ``segments_*``; others go to the reader as they are."""
    names = ("cu_seqlens_q", "cu_seqlens_k")
    if not any(name in arrays for name in names):
        if any(key in own or beside.get(key) is not None for key in ("segments_q", "segments_k")):
            return
        raise InputError("layout thd: expected 'cu_seqlens_q' and 'cu_seqlens_k', found neither")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"tensor '{missing[0]}': expected one of shape [S+1] in layout thd, found none")
    totals = [arrays[name].data.shape[0] if name in arrays else -1 for name in ("q", "k")]
    ends = []
    for name in names:
        data = arrays[name].data
        if data.ndim != 1 or data.size == 0 or data.dtype.kind not in "iu":
            raise InputError(
                f"tensor '{name}': expected integers of shape [S+1], found {data.dtype} {list(data.shape)}"
            )
        ends.append(int(data[-1]))
    has_gap = ends != totals or any(name in arrays for name in ("seqused_q", "seqused_k"))
    if not has_gap:
        for name, key in zip(names, ("segments_q", "segments_k")):
            own[key] = arrays.pop(name).data.tolist()


_knows_attn_mask: bool | None = None


def reader_knows_attn_mask() -> bool:
    """Whether the reader of this build takes the operand ``attn_mask``."""
    global _knows_attn_mask
    if _knows_attn_mask is None:
        one = Array("F32", np.zeros((1, 1, 1, 1), np.float32))
        arrays = {name: one for name in ("q", "k", "v", "do")}
        arrays["attn_mask"] = Array("U8", np.ones((1, 1, 1, 1), np.uint8))
        try:
            _core.grad(to_bytes(arrays, None), "{}", None, "f64", "exact", False)
            _knows_attn_mask = True
        except InputError:
            _knows_attn_mask = False
    return _knows_attn_mask


def _mask_as_bias(arrays: dict[str, Array]) -> frozenset[str]:
    """Carries ``attn_mask`` as a bias of 0 and -inf, which hides the same keys, where the reader does not take it."""
    mask = arrays.get("attn_mask")
    if mask is None or mask.data.ndim != 4 or mask.type not in ("U8", "BOOL") or reader_knows_attn_mask():
        return frozenset()
    del arrays["attn_mask"]
    bias = arrays.get("bias")
    seen = mask.data != 0
    if bias is None:
        arrays["bias"] = Array("F32", np.where(seen, np.float32(0), np.float32(-np.inf)))
        return frozenset({"dbias"})
    if bias.type in CARRIED:
        raise InputError("tensor 'bias': expected F64, F32 or F16 beside 'attn_mask', found " + bias.type)
    try:
        shape = np.broadcast_shapes(seen.shape, bias.data.shape)
    except ValueError as error:
        raise InputError(f"tensor 'attn_mask': expected the axes of 'bias', found {list(seen.shape)}") from error
    if shape != bias.data.shape:
        raise InputError("tensor 'bias': expected all axes that 'attn_mask' has, found fewer")
    arrays["bias"] = Array(bias.type, np.where(seen, bias.data, bias.data.dtype.type(-np.inf)))
    return frozenset()


CARRIED = ("BF16",)


def pack_candidate(candidate: Any, packed: Packed) -> bytes | str:
    """One candidate for the compiled module."""
    if isinstance(candidate, (str, os.PathLike)):
        return os.fspath(candidate)
    if not isinstance(candidate, Mapping):
        raise InputError(f"candidate: expected a dict of arrays or a path, found {type(candidate).__name__}")
    arrays = {}
    for name, value in candidate.items():
        if not isinstance(name, str):
            raise InputError(f"candidate: expected names of tensors, found {name!r}")
        if value is None:
            continue
        kind, data = array_of(name, value)
        arrays[name] = Array(kind, to_bhsd(name, data, packed.layout, packed.rows, True))
    settings = candidate.settings if isinstance(candidate, Problem) else None
    return to_bytes(arrays, settings_json(settings) if settings else None)


def pack_candidates(candidate: Any, packed: Packed) -> list[bytes | str]:
    """A candidate, or a list of several that are runs."""
    if isinstance(candidate, (list, tuple)):
        if not candidate:
            raise InputError("candidate: expected at least one, found an empty list")
        return [pack_candidate(one, packed) for one in candidate]
    return [pack_candidate(candidate, packed)]


def unpack_results(raw: bytes, layout: str, hidden: frozenset[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of results, in a layout."""
    arrays, _ = from_bytes(raw)
    names = [name for name in ORDER if name in arrays] + [name for name in arrays if name not in ORDER]
    return {name: from_bhsd(name, arrays[name].data, layout) for name in names if name not in hidden}


class Fixtures(Mapping[str, Problem]):
    """The cases of a tier by name. A case is made when it is asked for; it holds its answers (``expected/dq``) too."""

    tier: str

    def __init__(self, tier: str = "smoke") -> None:
        self.tier = tier
        self._names = _core.fixture_names(tier)

    def __getitem__(self, name: str) -> Problem:
        if name not in self._names:
            raise KeyError(name)
        raw, entry = _core.fixture(self.tier, name)
        arrays, metadata = from_bytes(raw)
        settings = json.loads(metadata) if metadata else {}
        case = Fixture({key: array.data for key, array in arrays.items()}, settings)
        case.entry = json.loads(entry)
        return case

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Fixtures({self.tier!r}: {len(self)} cases)"


class Fixture(Problem):
    """A problem of the suites, with its answers and its entry of the manifest (purpose, flags, bug)."""

    entry: dict[str, Any]
