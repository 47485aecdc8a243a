"""The 32-bit words of `sus-u/1`, in plain integers.

Written from the published algorithms (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011) and from the layouts of the specification, section 5.  `python sus_uniforms.py VECTORS.json`
checks everything here against the stored known answers.
"""

import json
import math
import struct
import sys
from fractions import Fraction

MASK32 = 0xFFFFFFFF
TWO32 = 1 << 32
SECOND = 1 << 31  # the stream bit of second words and of the systematic sampler


def philox4x32(counter, key, rounds=10):
    """Philox4x32: four counter words and two key words give four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        a = c0 * 0xD2511F53
        b = c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK32, (a >> 32) ^ c3 ^ k1, a & MASK32
        k0 = (k0 + 0x9E3779B9) & MASK32
        k1 = (k1 + 0xBB67AE85) & MASK32
    return [c0, c1, c2, c3]


def threefry2x32(counter, key, rounds=20):
    """Threefry2x32: two counter words and two key words give two words."""
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (counter[0] + keys[0]) & MASK32, (counter[1] + keys[1]) & MASK32
    for r in range(rounds):
        x = (x + y) & MASK32
        turn = rotations[r % 8]
        y = ((y << turn) | (y >> (32 - turn))) & MASK32
        y ^= x
        if r % 4 == 3:  # a key injection after every four rounds
            s = r // 4 + 1
            x = (x + keys[s % 3]) & MASK32
            y = (y + keys[(s + 1) % 3] + s) & MASK32
    return [x, y]


def jax_key(seed, stream):
    """The key data of `jax.random.key(seed)`, folded with the stream when that is not zero."""
    key = [seed >> 32, seed & MASK32]
    if stream != 0:
        key = threefry2x32([0, stream], key)
    return key


STRIPS = ((2, 1 << 10, 1.0), (1, 1 << 6, float.fromhex("0x1.fdecbe15f6314p-1")))  # tag, keys of a cell, 1 - U at the lower end
HIGH = float.fromhex("0x1.ddd79e065807dp-1")


def arrival(key, row, i, stream, j):
    """The word of key j in the layout arrival: the smallest of its points (docs/arrival.md)."""

    def of(r, root, start):  # r^(1/root), the root a power of two
        while root > 1:
            r, root = math.sqrt(r), root // 2
        return math.floor((1 - r * start) * TWO32)

    found = [of((philox4x32([j >> 2, i, row, stream], key)[j & 3] + 0.5) / TWO32, 1, HIGH)]
    for tag, keys, start in STRIPS:
        product = TWO32
        for n in range(64):
            w = philox4x32([tag << 30 | j // keys << 4 | n // 4, i, row, stream], key)[n % 4]
            product = product * (w - w % keys + keys // 2) // TWO32
            if product < TWO32 // 64:
                break
            if w % keys == j % keys:
                found.append(of(product / TWO32, keys, start))
    return min(found)


def word(layout, seed, stream, b, h, i, j, heads, n_q, n_k):
    """The word of weight (b, h, i, j).  `b` counts segments too, and `h` is the query head."""
    row = b * heads + h
    philox_key = [seed & MASK32, seed >> 32]
    if layout == "arrival" and stream < SECOND:
        return arrival(philox_key, row, i, stream, j)
    if layout in ("coord4", "arrival"):
        return philox4x32([j >> 2, i, row, stream], philox_key)[j & 3]
    if layout == "linear4":
        offset = (row * n_q + i) * ((n_k + 3) // 4) + (j >> 2)
        return philox4x32([offset & MASK32, offset >> 32, 0, stream], philox_key)[j & 3]
    offset = (row * n_q + i) * n_k + j
    if layout == "linear1":
        return philox4x32([offset & MASK32, offset >> 32, 0, stream], philox_key)[0]
    if layout == "jax-threefry":
        x, y = threefry2x32([offset >> 32, offset & MASK32], jax_key(seed, stream))
        return x ^ y
    raise ValueError(f"unknown layout {layout}")


def keep(q, x, second_word=None):
    """Keep iff q >= 1 or x < q 2^32, exactly; with a second word (a function) the 64-bit rule.

    `q` may be any exact number: a Fraction, or an extended-precision float.
    """
    if q >= 1:
        return True
    scaled = q * TWO32
    if second_word is None:
        return x < scaled
    whole = int(scaled)
    if x != whole:
        return x < whole
    return second_word() < (scaled - whole) * TWO32


def hexint(text):
    return int(text, 16)


def check_vector(v):
    """True or False for a vector known here, None for one that is not ours to check."""
    name, given, want = v["algorithm"], v["inputs"], v["outputs"]
    if name.startswith(("philox4x32-", "threefry2x32-")):
        function = philox4x32 if name.startswith("philox") else threefry2x32
        counter = [hexint(x) for x in given["ctr"]]
        key = [hexint(x) for x in given["key"]]
        return function(counter, key, int(name.split("-")[1])) == [hexint(x) for x in want["out"]]
    if name == "triton>=3.4 tl.randint4x":
        offset, seed = hexint(given["offset"]), hexint(given["seed"])
        words = philox4x32([offset & MASK32, offset >> 32, 0, 0], [seed & MASK32, seed >> 32])
        return words == [hexint(x) for x in want["out"]]
    if name == "jax.random threefry2x32 partitionable":
        seed = hexint(given["seed"])
        words = [hexint(x) for x in want["bits_u32"]]
        return words == [word("jax-threefry", seed, 0, 0, 0, 0, n, 1, 1, len(words)) for n in range(len(words))]
    if name == "sus coord4":
        place = (0, given["bh"], given["i"], given["j"], given["bh"] + 1, 0, 0)
        seed, stream = hexint(given["seed"]), given["stream"]
        first = word("coord4", seed, stream, *place)
        second = word("coord4", seed, stream | SECOND, *place)
        return [first, second] == [hexint(want["x"]), hexint(want["x_ext"])]
    if name in ("sus linear4", "sus linear1", "sus jax-threefry"):
        place = (given["b"], given["h"], given["i"], given["j"], given["H"], given["n_q"], given["n_k"])
        return word(name[4:], hexint(given["seed"]), 0, *place) == hexint(want["x"])
    if name in ("sus keep32", "sus keep64"):
        q = Fraction(struct.unpack(">d", bytes.fromhex(given["q_f64"]))[0])
        second = (lambda: hexint(given["x_ext"])) if name == "sus keep64" else None
        return keep(q, hexint(given["x"]), second) == want["keep"]
    return None


# What jax 0.10.2 (CPU) gives for `fold_in(key(seed), stream)`: the seed, the stream, `random.key_data` of the
# folded key, and the first words of `random.bits` of shape (1, 2, 2, 3) from it.
FOLD_IN = [
    (42, 7, [0x97D0552F, 0x51BF719F], [0x9D13046E, 0x7F0426E3, 0x8F889F08]),
    (0, 1, [0x375F238F, 0xCDDB151D], [0x01DE0365, 0x05592150, 0x94D85FC8]),
    (42, SECOND, [0xBDA28B29, 0x84D904A5], [0x78EF02F4, 0xA3D620A9, 0xC9B3CD9E]),
    (42, SECOND | 7, [0x1B3301BB, 0x359550D2], [0x96D6E7D9, 0x8785D3BC, 0xC211706A]),
    (0x123456789ABCDEF0, 3, [0x2D7CCF79, 0xA683F6A8], []),
]


def check_fold_in():
    for seed, stream, key, words in FOLD_IN:
        found = [word("jax-threefry", seed, stream, 0, 0, 0, j, 2, 2, 3) for j in range(len(words))]
        if jax_key(seed, stream) != key or found != words:
            return False
    return True


def main():
    vectors = json.load(open(sys.argv[1], encoding="utf-8"))["vectors"]
    results = [(v["algorithm"], check_vector(v)) for v in vectors]
    wrong = [name for name, result in results if result is False]
    checked = sum(result is not None for _, result in results)
    if not check_fold_in():
        wrong.append("fold_in")
    left_out = len(results) - checked
    print(f"{checked} vectors checked, {left_out} of other generators left out, {len(wrong)} wrong {wrong}")
    sys.exit(1 if wrong or checked == 0 else 0)


if __name__ == "__main__":
    main()
