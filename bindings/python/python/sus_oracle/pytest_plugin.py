"""The fixture ``attention_oracle`` and the option ``--sus-oracle-save`` of pytest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ._functions import check
from ._problem import pack_candidates, pack_problem
from ._report import Report, raise_unless_passed

#: Arguments of ``check`` that describe no problem; the rest are settings.
OPTIONS = {"recipe", "mode", "only", "law", "repeat", "plain", "executor", "layout"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--sus-oracle-save``."""
    group = parser.getgroup("sus-oracle")
    group.addoption(
        "--sus-oracle-save",
        metavar="DIR",
        default=None,
        help="keep the problem and the candidate of each attention_oracle that does not pass, and print the command",
    )


@pytest.fixture
def attention_oracle(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """``attention_oracle(problem, candidate, **options)``: :func:`sus_oracle.assert_correct`, which can keep its files."""
    folder = request.config.getoption("--sus-oracle-save")
    count = 0

    def judge(problem: Any, candidate: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        nonlocal count
        count += 1
        report = check(problem, candidate, **options)
        if not report and folder is not None:
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name).strip("-")
            command = save(Path(folder) / f"{name}-{count}", problem, candidate, options)
            report = Report(report.json, f"{report}saved      {command}\n")
        raise_unless_passed(report)
        return report

    return judge


def save(folder: Path, problem: Any, candidate: Any, options: dict[str, Any]) -> str:
    """Writes the files of a call into a folder, and gives the command that judges them."""
    settings = {key: value for key, value in options.items() if key not in OPTIONS}
    packed = pack_problem(problem, options.get("layout"), {})
    # With its settings, so that the file alone says what the problem is.
    if isinstance(packed.source, bytes):
        packed = pack_problem(_with_settings(problem, settings, packed.layout), None, {})
    folder.mkdir(parents=True, exist_ok=True)
    files = [_file(packed.source, folder / "problem.safetensors")]
    runs = pack_candidates(candidate, packed)
    for number, run in enumerate(runs):
        name = "candidate.safetensors" if len(runs) == 1 else f"candidate-{number}.safetensors"
        files.append(_file(run, folder / name))
    words = ["sus-oracle", "check", *files]
    for key in ("recipe", "mode"):
        if options.get(key) is not None:
            words += [f"--{key}", str(options[key])]
    if options.get("repeat") == "bitwise":
        words += ["--repeat", "bitwise"]
    words += [f"--{key}" for key in ("law", "plain") if options.get(key)]
    return shlex.join(words)


def _with_settings(problem: Any, settings: dict[str, Any], layout: str) -> Any:
    from ._problem import Problem

    own = dict(problem.settings) if isinstance(problem, Problem) else {}
    own_layout = problem.layout if isinstance(problem, Problem) else layout
    given = {"layout" if key == "words" else key: value for key, value in settings.items() if value is not None}
    if "c" in given or own.get("pass") == "sus":
        given["pass"] = "sus"
    else:
        given.pop("seed", None)
    return Problem(problem, {**own, **given}, own_layout)


def _file(source: bytes | str, path: Path) -> str:
    """The path of a file, written if it is in memory."""
    if isinstance(source, str):
        return source
    path.write_bytes(source)
    return str(path)
