"""Known answers for the double-double scalar, by mpmath (any version from 1.0 on).

    python3 make_dd_mpmath.py > dd_mpmath.json      the cases of tests/scalar_dd.rs
    python3 make_dd_mpmath.py --table               the constants of src/scalar/dd/table.rs

A number is "HI LO", the bits of two f64 in hexadecimal, standing for HI + LO. Inputs are exact. Outputs are the
true value rounded to HI, and the remainder rounded to LO, each to nearest even; they were computed with 4800 bits,
enough to hold any sum, difference or product of two inputs without rounding.
"""

import json
import random
import struct
import sys
from fractions import Fraction

import mpmath
from mpmath import mpf

mpmath.mp.prec = 4800


def exact(x):
    """The mpf `x` as a fraction."""
    sign, mantissa, exponent, _ = x._mpf_
    value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -value if sign else value


def split(x):
    """The mpf `x` as the two f64 (hi, lo). A quotient of integers rounds correctly, subnormals included."""
    value = exact(x)
    try:
        hi = value.numerator / value.denominator
    except OverflowError:
        return (float("inf") if value > 0 else float("-inf")), 0.0
    rest = value - Fraction(hi)
    lo = rest.numerator / rest.denominator
    # A remainder just below half a unit may have been rounded up to it, and the tie goes to the next HI.
    return hi + lo, lo - ((hi + lo) - hi)


def bits(parts):
    parts = [part + 0.0 for part in parts]  # no negative zeros
    return " ".join("%016x" % struct.unpack("<Q", struct.pack("<d", part))[0] for part in parts)


def number(hi, lo=0.0):
    """A normalised input."""
    assert hi + lo == hi, (hi, lo)
    return hi, lo


def value(parts):
    return mpf(parts[0]) + mpf(parts[1])


def rounded(x):
    """The double-double nearest to the decimal string or mpf `x`."""
    return split(mpf(x))


def random_number(rng, low, high):
    """A random sign, a magnitude in [2^low, 2^high) and 53 random bits in the low part too."""
    hi = rng.choice((-1.0, 1.0)) * (1.0 + rng.random()) * 2.0 ** rng.uniform(low, high - 1)
    lo = hi * 2.0**-54 * rng.uniform(-0.99, 0.99) * 2.0 ** -rng.choice((0, 0, 0, 1, 5, 30, 60))
    return number(hi, lo if hi + lo == hi else 0.0)


LARGEST = sys.float_info.max
SMALLEST = 5e-324
EDGES = [
    number(1.0),
    number(-3.0),
    number(1.0, 2.0**-54),
    number(1.0, -(2.0**-55)),
    number(1.0, 2.0**-106),
    number(-1.0, 1e-300),
    number(2.0**-1022),
    number(SMALLEST),
    number(-1.5e-310),
    number(1e-290, 3e-307),
    number(2.0**1000, 2.0**940),
    number(2.0**996 * 1.7, -(2.0**942)),
    number(LARGEST),
    number(-LARGEST, LARGEST * 2.0**-55),
    number(LARGEST * 2.0**-60),
]


def pairs():
    rng = random.Random(1)
    cases = [(a, b) for a in EDGES for b in EDGES]
    for low, high in ((-1, 1), (-20, 20), (-300, 300), (-480, 480), (-1000, 1000)):
        cases += [(random_number(rng, low, high), random_number(rng, low, high)) for _ in range(20)]
    for _ in range(30):  # cancellation: b = -a but for the last bits of the high part, or of the low one alone
        a = random_number(rng, -3, 3)
        near = -a[0] * (1.0 + rng.choice((0, 1, -1, 3)) * 2.0**-52)
        cases.append((a, number(near, near * rng.uniform(-1, 1) * 2.0**-55)))
    return cases


def arguments():
    """For each function, arguments over its whole range and where it is hard."""
    rng = random.Random(2)
    exp = ["0.5", "-0.5", "1", "-1", "88.7", "-88.7", "700", "-700", "709.78", "709.7827128933840", "-708.3", "-708.4", "-720", "-744.4", "-745.13"]
    exp = [rounded(x) for x in exp]
    exp += [number(1e-300), number(-1e-20), number(SMALLEST), number(2.0**-60, 2.0**-130), number(1e-8, -3e-25)]
    for n in range(-64, 65):  # the table's every entry, at and around the steps of the argument reduction
        exp.append(rounded((mpf(n) + mpf(rng.choice((0, 0.5, -0.5, 0.499)))) / 64 * mpmath.log(2)))
    exp += [rounded(mpf(rng.uniform(-700, 700)) + mpf(rng.random()) * mpf(2) ** -60) for _ in range(120)]
    exp += [random_number(rng, -60, 8) for _ in range(60)]

    tanh = [number(s * x) for s in (1.0, -1.0) for x in (SMALLEST, 1e-310, 1e-250, 1e-20, 1e-5, 0.17, 0.18, 0.55, 1.0, 5.0, 18.7, 19.1, 36.0, 37.0, 100.0, 372.0, 400.0, 1e10)]
    tanh += [random_number(rng, -60, 6) for _ in range(120)] + [random_number(rng, -3, 2) for _ in range(60)]

    positive = [p if p[0] > 0 else (-p[0], -p[1]) for p in EDGES]
    for _ in range(100):
        hi, lo = random_number(rng, -1020, 1023)
        positive.append((abs(hi), lo if hi > 0 else -lo))
    ln = list(positive)
    for k in list(range(1, 54, 4)) + [70, 90, 105]:  # close to 1, from both sides
        ln += [rounded(1 + mpf(rng.uniform(1, 2)) * mpf(2) ** -k), rounded(1 - mpf(rng.uniform(1, 2)) * mpf(2) ** -(k + 1))]
    ln += [rounded(mpmath.sqrt(2) * mpf(2) ** k * (1 + s * mpf(2) ** -50)) for k in (-1, 0, 1) for s in (-1, 0, 1)]
    ln += [rounded(mpf(rng.uniform(0.5, 2.0)) + mpf(rng.random()) * mpf(2) ** -60) for _ in range(80)]
    return {"exp": exp, "exp_m1": exp, "ln": ln, "sqrt": positive, "tanh": tanh}


FUNCTIONS = {"exp": mpmath.exp, "exp_m1": mpmath.expm1, "ln": mpmath.log, "sqrt": mpmath.sqrt, "tanh": mpmath.tanh}
OPERATIONS = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b}


def vectors():
    cases = {}
    for name, function in FUNCTIONS.items():
        # The functions need no exact answers, and 4800 bits of them would take minutes. 1400 bits hold
        # exp(x) - 1 and tanh(x) to 200 bits and more for any argument used here.
        with mpmath.workprec(1400):
            cases[name] = [[bits(x), bits(split(function(value(x))))] for x in arguments()[name]]
    for name, operation in OPERATIONS.items():
        cases[name] = [[bits(a), bits(b), bits(split(operation(value(a), value(b))))] for a, b in pairs()]
    print('{\n"made_by": "tests/data/make_dd_mpmath.py, mpmath %s",' % mpmath.__version__)
    for name, rows in cases.items():
        end = "}" if name == list(cases)[-1] else ","
        print('"%s": [\n%s\n]%s' % (name, ",\n".join(json.dumps(row) for row in rows), end))


def grouped(parts):
    return ["0x" + "_".join(word[i : i + 4] for i in (0, 4, 8, 12)) for word in bits(parts).split()]


def table():
    step = mpmath.log(2) / 64
    parts, rest = [], step
    for _ in range(2):  # 36 bits each: n * part is exact for |n| < 2^17
        exponent = mpmath.floor(mpmath.log(abs(rest), 2))
        part = mpmath.nint(rest * mpf(2) ** (35 - exponent)) / mpf(2) ** (35 - exponent)
        parts.append(float(part))
        rest -= part
    parts.append(float(rest))
    print("// ln(2) / 64:", ", ".join(grouped((part, 0.0))[0] for part in parts))
    print("// 1 / k!:")
    for k in range(3, 12):
        print("    bits(%s, %s)," % tuple(grouped(split(mpf(1) / mpmath.factorial(k)))))
    print("// 2^(j/64) - 1, j from -32:")
    for j in range(-32, 32):
        print("    bits(%s, %s)," % tuple(grouped(split(mpmath.expm1(j * step)))))


if __name__ == "__main__":
    table() if sys.argv[1:] == ["--table"] else vectors()
