"""The table of docs/gpu.md, from the figures that sus_attention.py stored.

    python3 benches/gpu/table.py benches/gpu/h200.json
"""

from __future__ import annotations

import json
import sys


def rows(results: list[dict]) -> list[str]:
    """Times in ms for c = 30; the two ratios are above 1 where SUS is faster."""
    lines = []
    for result in results:
        ms = result["ms"]
        mask = ms["forward with mask, c = 30"] - ms["ours forward"]
        sparse = ms["sparse backward, c = 30"]
        cells = [
            result["pattern"],
            result["features"],
            result["n"],
            f"{result['kept']['30']:.1f}",
            f"{ms['cudnn forward']:.1f} + {ms['cudnn backward']:.1f}",
            f"{ms['flash forward']:.1f} + {ms['flash backward']:.1f}",
            f"{ms['flex forward']:.1f} + {ms['flex backward']:.1f}",
            f"{ms['ours forward']:.1f} + {mask:.1f} + {sparse:.1f}",
            f"{ms['cudnn backward'] / sparse:.1f}",
            f"{ms['cudnn backward'] / (mask + sparse):.2f}",
            f"{(ms['cudnn forward'] + ms['cudnn backward']) / (ms['ours forward'] + mask + sparse):.2f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    with open(sys.argv[1]) as file:
        stored = json.load(file)
    print("| weights | D | n | kept a row | cuDNN: forward + backward | FlashAttention 2 | Flex "
          "| ours: forward + mask + sparse backward | cuDNN backward / sparse | / (mask + sparse) | both passes |")
    print("|---" * 11 + "|")
    print("\n".join(rows(stored["results"])))
    print("\n" + ", ".join(f"{name} {value}" for name, value in stored["versions"].items()))


if __name__ == "__main__":
    main()
