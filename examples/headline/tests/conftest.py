"""`python3 -m pytest examples/headline/tests`: what needs PyTorch is skipped by name without it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
