"""`python3 examples/headline COMMAND ...`; `--help` after a command shows its options."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from headline.errors import InputError

COMMANDS = {
    "train": "train a GPT dense and with SUS from the same start",
    "pack": "weights as files of a limited size",
    "measure": "the variance that a mask adds, over the variance between sequences",
    "problems": "the attention of each layer, as files that `sus-oracle choose-c --layers` reads",
    "summary": "results without the numbers of single windows",
    "table": "results as tables in Markdown",
    "plot": "results as pictures",
}


def main() -> int:
    words = sys.argv[1:]
    if not words or words[0] not in COMMANDS:
        listed = "\n".join(f"  {name:8} {what}" for name, what in COMMANDS.items())
        print(f"usage: python3 examples/headline COMMAND [options]\n\n{listed}", file=sys.stderr)
        return 0 if words in (["--help"], ["-h"]) else 2
    try:
        importlib.import_module(f"headline.{words[0]}").main(words[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"error: `{words[0]}` expected the package {error.name!r}, found none", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
