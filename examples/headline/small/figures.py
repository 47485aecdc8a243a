"""`python3 examples/headline/small/figures.py`: writes figures.json, what PyTorch computes for the small model; needs torch.

Of eight windows: loss, squared length of the dense gradient, expected number of kept entries, and what the mask adds, over 24 draws;
their variance; and the figures of `measure` over 128 windows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from headline.attention import Attention, Masking
from headline.checkpoints import load_model
from headline.corpus import spread_windows
from headline.figures import groups
from headline.gradients import Window, squares
from headline.progress import read_json, versions

N, WINDOWS, DRAWS, BUDGETS = 512, 8, 24, (10, 30)


def main() -> None:
    device = torch.device("cpu")
    config, parameters = load_model(HERE / "model.safetensors", device)
    text = np.frombuffer((HERE / "heldout.txt").read_bytes(), np.uint8)
    attention = Attention(config.layers, config.heads, torch.Generator())
    attention.numbers.manual_seed(0)
    sizes, of = [x.numel() for x in parameters.values()], groups(list(parameters))
    windows: list[dict[str, Any]] = []
    total = torch.zeros(sum(sizes), dtype=torch.float64)
    for tokens in spread_windows(text, N, WINDOWS, 0):
        window = Window.of(config, parameters, torch.from_numpy(tokens), attention)
        g = window.gradient(Masking())
        g2 = squares(g, sizes).numpy()
        total += g
        start = next(at for at in range(0, len(text) - N, N) if np.array_equal(text[at : at + N + 1], tokens))
        lengths = {name: float(g2[of[name]].sum()) for name in ("all", "attention")}
        record: dict[str, Any] = {"start": start, "loss": float(window.loss.detach()), "g2": lengths}
        for c in BUDGETS:
            masking = Masking(torch.full((config.layers, config.heads), float(c)))
            attention.count, added = True, []
            for _ in range(DRAWS):
                attention.begin_counts()
                added.append(float(squares(window.gradient(masking) - g, sizes).sum()))
            attention.count = False
            error = float(np.std(added, ddof=1) / DRAWS**0.5)
            record[f"c={c}"] = {"expected": float(attention.expected.mean()) / N, "e2": float(np.mean(added)), "e2_error": error}
        windows.append(record)
    between = (sum(record["g2"]["all"] for record in windows) - float(total @ total) / WINDOWS) / (WINDOWS - 1)
    with tempfile.TemporaryDirectory() as folder:
        words = ["measure", "--model", HERE / "model.safetensors", "--json", Path(folder) / "m.json", "--n", N, "--windows", 128]
        words += ["--c", ",".join(map(str, BUDGETS)), "--whole", "--text", HERE / "heldout.txt", "--device", "cpu"]
        subprocess.run([sys.executable, HERE.parent, *map(str, words)], check=True)
        run = read_json(Path(folder) / "m.json")["runs"][0]
    found = {
        "n": N, "draws": DRAWS, "versions": versions(device), "windows": windows, "between": between,
        "measure": {x["text"]: {"windows": x["windows"], "kept": x["kept"], "all": x["ratios"]["all"]["mean"]} for x in run["figures"]},
    }  # fmt: skip
    (HERE / "figures.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
