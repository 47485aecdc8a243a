"""Verdicts as values, and the errors that stand for verdicts other than PASS."""

from __future__ import annotations

from typing import Any


class Report:
    """The verdict on a candidate. It is true for PASS alone."""

    #: ``PASS``, ``FAIL``, ``REFUSED`` or ``INCONCLUSIVE``.
    outcome: str
    #: What ``sus-oracle check --json`` prints.
    json: dict[str, Any]

    def __init__(self, json: dict[str, Any], text: str) -> None:
        self.outcome = json["verdict"]
        self.json = json
        self._text = text

    @property
    def diagnosis(self) -> str | None:
        """The known bug, or the other recipe, that explains a failure."""
        said: str | None = self.json["diagnosis"]
        return said

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        code: int = self.json["exit_code"]
        return code

    def __bool__(self) -> bool:
        return self.outcome == "PASS"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self.json == other.json and self._text == other._text

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Report {self.outcome}>"


class WrongGradient(AssertionError):
    """The verdict is FAIL. ``report`` has it."""

    report: Any

    def __init__(self, report: Any) -> None:
        super().__init__("\n" + str(report))
        self.report = report


class Refused(AssertionError):
    """The verdict is REFUSED: the bounds are too wide to judge by."""

    report: Any

    def __init__(self, report: Any) -> None:
        super().__init__("\n" + str(report))
        self.report = report


class Inconclusive(AssertionError):
    """The verdict is INCONCLUSIVE: the runs are too few to tell."""

    report: Any

    def __init__(self, report: Any) -> None:
        super().__init__("\n" + str(report))
        self.report = report


def raise_unless_passed(report: Any) -> None:
    """Raises the error of an outcome that is not PASS."""
    __tracebackhide__ = True
    if report.outcome != "PASS":
        raise {"REFUSED": Refused, "INCONCLUSIVE": Inconclusive}.get(report.outcome, WrongGradient)(report)
