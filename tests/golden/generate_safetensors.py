"""Writes what Python's safetensors package finds in checkpoints of version 1 to a folder.

Usage: python generate_safetensors.py FOLDER
"""

import json
import sys
from pathlib import Path

from safetensors import deserialize

FIXTURES = Path(__file__).parents[2] / "crates/bridge-train/tests/fixtures"


def tensors(path):
    entries = deserialize(path.read_bytes())
    return {
        name: {"dtype": entry["dtype"], "shape": entry["shape"], "hex": bytes(entry["data"]).hex()}
        for name, entry in sorted(entries)
    }


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    whole = tensors(FIXTURES / "version_1.safetensors")
    index = json.loads((FIXTURES / "version_1.safetensors.index.json").read_text())
    files = {name: tensors(FIXTURES / name) for name in sorted(set(index["weight_map"].values()))}
    spread = {name: files[file][name] for name, file in sorted(index["weight_map"].items())}
    text = json.dumps({"whole": whole, "index": spread}, indent=1)
    (folder / "version_1.json").write_text(text + "\n")


main(Path(sys.argv[1]))
