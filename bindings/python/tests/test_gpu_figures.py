"""The table of docs/gpu.md is the one that its command prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[3]


def test_the_table_of_the_book_is_printed_by_its_command() -> None:
    command = [sys.executable, HOUSE / "benches/gpu/table.py", HOUSE / "benches/gpu/h200.json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    page = (HOUSE / "docs/gpu.md").read_text()
    rows = [line for line in printed if line.startswith("|")]
    assert len(rows) == 18
    assert "\n".join(rows) in page
    assert printed[-1] in page
