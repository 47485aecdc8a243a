"""Lists of numbers in an option."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .errors import InputError

Number = TypeVar("Number", int, float)


def numbers(text: str, option: str, kind: Callable[[str], Number], low: Number, high: Number) -> list[Number]:
    """Numbers from `low` to `high`, by commas."""
    try:
        found = [kind(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(low <= number <= high for number in found):
        raise InputError(f"option '{option}': expected numbers from {low} to {high:g}, by commas, found {text!r}")
    return found
