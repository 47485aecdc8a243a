"""Arrays of any library as NumPy arrays with the name of their safetensors type, and back from bytes.

An array is read as it looks: strides, whether negative, zero or in Fortran order, only say where an element lies. Torch
and JAX are recognised by the type of what is passed, and never imported here.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._core import InputError

#: The safetensors type of a NumPy type, by its name. Types of 8 and 16 bits that NumPy lacks come from ml_dtypes.
TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}

#: Types that NumPy cannot hold by itself, and the unsigned integers that carry their bits.
CARRIERS = {"BF16": np.uint16, "F8_E4M3": np.uint8, "F8_E5M2": np.uint8, "F8_E8M0": np.uint8}


class Array(NamedTuple):
    """Elements, and the safetensors type that they have. The elements may be bits of a type that NumPy lacks."""

    type: str
    data: npt.NDArray[Any]


def library_of(value: object) -> str:
    """The package whose array this is, such as ``numpy`` or ``torch``; of a subclass, the one that it derives from."""
    for base in type(value).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("torch", "numpy", "jax", "jaxlib", "cupy"):
            return "jax" if root == "jaxlib" else root
    return type(value).__module__.partition(".")[0]


def is_array(value: object) -> bool:
    """Whether a value is an array, as opposed to a setting."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type)


def one_line(error: BaseException) -> str:
    """The message of a foreign error in one line."""
    words = " ".join(str(error).split())
    return words[:300] or type(error).__name__


def array_of(name: str, value: Any) -> Array:
    """Any array, or nested lists of numbers, as it looks."""
    library = library_of(value)
    try:
        if library == "torch":
            return _of_torch(name, value)
        if library == "cupy":
            value = value.get()
        if isinstance(value, np.ma.MaskedArray):
            raise InputError(f"tensor '{name}': expected an array without a mask, found a masked array")
        data = np.asarray(value)
    except InputError:
        raise
    except Exception as error:
        said = f"tensor '{name}': expected an array, found {type(value).__name__} ({one_line(error)})"
        raise InputError(said) from error
    type_name = TYPES.get(data.dtype.name)
    if type_name is None:
        raise InputError(f"tensor '{name}': expected a type of safetensors, found {data.dtype}")
    carrier = CARRIERS.get(type_name)
    if carrier is not None:
        return Array(type_name, data.view(carrier))
    return Array(type_name, data.astype(data.dtype.newbyteorder("<"), copy=False))


def _of_torch(name: str, value: Any) -> Array:
    torch = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_meta or getattr(value, "is_nested", False):
        raise InputError(f"tensor '{name}': expected a dense torch tensor with values, found {value.layout}")
    if value.is_complex():
        raise InputError(f"tensor '{name}': expected a type of safetensors, found {value.dtype}")
    value = value.detach().cpu().resolve_neg()
    # NumPy has no type for these: their bits cross as integers.
    bits = {
        "torch.bfloat16": ("BF16", torch.int16),
        "torch.float8_e4m3fn": ("F8_E4M3", torch.uint8),
        "torch.float8_e5m2": ("F8_E5M2", torch.uint8),
        "torch.float8_e8m0fnu": ("F8_E8M0", torch.uint8),
    }.get(str(value.dtype))
    if bits is not None:
        return Array(bits[0], value.view(bits[1]).numpy().view(CARRIERS[bits[0]]))
    return array_of(name, value.numpy())


def to_bytes(arrays: Mapping[str, Array], metadata: str | None) -> bytes:
    """The bytes of a safetensors file of these arrays, row-major."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": {"sus_oracle": metadata}}
    parts = []
    end = 0
    for name, (type_name, data) in sorted(arrays.items()):
        part = data.tobytes("C")
        header[name] = {
            "dtype": type_name,
            "shape": list(data.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def from_bytes(raw: bytes) -> tuple[dict[str, Array], str | None]:
    """The arrays of a safetensors file that this package or its compiled module wrote, and its settings."""
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin])
    metadata = header.pop("__metadata__", {}).get("sus_oracle")
    types = {type_name: np.dtype(name) for name, type_name in TYPES.items() if type_name not in CARRIERS}
    arrays = {}
    for name, entry in header.items():
        type_name = entry["dtype"]
        dtype = types.get(type_name) or np.dtype(CARRIERS[type_name])
        shape = entry["shape"]
        count = math.prod(shape)
        # A copy: the caller may write to it.
        data = np.frombuffer(raw, dtype, count, begin + entry["data_offsets"][0]).reshape(shape).copy()
        arrays[name] = Array(type_name, data)
    return arrays, metadata
