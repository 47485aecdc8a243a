from typing import final

__all__ = [
    "InputError",
    "SampledForward",
    "analyze",
    "check",
    "choose_c",
    "fixture",
    "fixture_names",
    "grad",
    "power",
]

class InputError(ValueError): ...

@final
class SampledForward:
    def __new__(cls, problem: bytes | str, settings: str, single: bool) -> SampledForward: ...
    def results(self) -> bytes: ...
    def kept(self) -> int | None: ...
    def backward(self, cotangent: bytes | str) -> bytes: ...

def grad(problem: bytes | str, settings: str, seed: int | None, dtype: str, mode: str, plain: bool) -> bytes: ...
def check(
    problem: bytes | str,
    candidates: list[bytes | str],
    settings: str,
    seed: int | None,
    recipe: str | None,
    mode: str,
    law: bool,
    bitwise: bool,
    plain: bool,
    command: str,
) -> tuple[str, str]: ...
def power(
    problem: bytes | str,
    settings: str,
    seed: int | None,
    bias: float,
    variance: float,
    recipe: str,
    bugs: bool,
) -> tuple[str, str]: ...
def choose_c(
    problems: list[bytes | str],
    settings: str,
    target: float,
    of: str,
    relative_to: str,
    rule: str,
    sampler: str,
    plain: bool,
) -> tuple[str, str]: ...
def analyze(
    problems: list[bytes | str],
    settings: str,
    c: list[float] | None,
    rule: str | None,
    sampler: str | None,
    plain: bool,
) -> tuple[str, str]: ...
def fixture_names(tier: str) -> list[str]: ...
def fixture(tier: str, name: str) -> tuple[bytes, str]: ...
