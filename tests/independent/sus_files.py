"""Problem and result files: a small safetensors reader and writer of our own (SPEC section 7).

Floats of every width become float64 arrays, which hold them exactly.
"""

import json
import struct

import numpy as np

METADATA_KEY = "sus_oracle"
PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U64": "<u8", "I32": "<i4", "U8": "u1", "BOOL": "u1"}


def decode(dtype, data):
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    array = np.frombuffer(data, PLAIN[dtype])
    return array.astype(np.float64) if dtype in ("F16", "F32", "F64") else array


def encode(dtype, array):
    """Bytes of an array in a dtype, rounded to nearest (ties to even) where that is narrower."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        return (rounded >> 16).astype("<u2").tobytes()
    return np.ascontiguousarray(array).astype(PLAIN[dtype]).tobytes()


def pack(tensors, metadata=None, header_metadata=None):
    """The bytes of a file; `tensors` maps a name to (dtype, array), or to (dtype, shape, bytes) as they are."""
    header, body = {}, b""
    if metadata is not None:
        header_metadata = {METADATA_KEY: json.dumps(metadata, sort_keys=True, allow_nan=False)}
    if header_metadata is not None:
        header["__metadata__"] = header_metadata
    # Widest first, then by name, as the format's own writer does: data stay aligned.
    width = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2}
    for name in sorted(tensors, key=lambda n: (-width.get(tensors[n][0], 1), n)):
        dtype, *rest = tensors[name]
        shape, data = rest if len(rest) == 2 else (rest[0].shape, encode(dtype, rest[0]))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return frame(json.dumps(header, separators=(",", ":")).encode(), body)


def frame(header, body):
    """Length, header padded to eight bytes, data."""
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + body


def write(path, tensors, metadata=None):
    with open(path, "wb") as file:
        file.write(pack(tensors, metadata))


def read(path):
    """(metadata or {}, {name: array}, {name: dtype})."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    metadata = json.loads(header.pop("__metadata__", {}).get(METADATA_KEY, "{}"))
    arrays, dtypes = {}, {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        arrays[name] = decode(entry["dtype"], body[start:end]).reshape(entry["shape"])
        dtypes[name] = entry["dtype"]
    return metadata, arrays, dtypes
