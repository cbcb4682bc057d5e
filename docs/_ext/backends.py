"""The table of array libraries, from the declaration that selects the tests."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# The words that `lacks` may hold, in the order of the columns.
ABILITIES = ("half", "double", "grad", "jit", "vmap", "compile", "reflected", "operators", "mesh")


def pins(groups: dict[str, list[Any]], *names: str) -> list[str]:
    """What dependency groups install, each with the groups it includes."""
    flat: list[str] = []
    for entry in (entry for name in names for entry in groups[name]):
        flat += [entry] if isinstance(entry, str) else pins(groups, entry["include-group"])
    return flat


def version(groups: dict[str, list[Any]], group: str, module: str) -> str:
    """The library of a backend as the test matrix pins it: ``"torch 2.13.0"``."""
    library = module.partition(".")[0].replace("_", "-")
    installed = pins(groups, group, "test")
    return next(pin.replace("==", " ") for pin in installed if pin.startswith(library))


def table() -> str:
    """The backends and what each can do, as a Markdown table of at most 100 columns."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    rows = [["backend", "library", *ABILITIES]]
    rows.append(["---"] * len(rows[0]))
    for name, backend in project["tool"]["eckart"]["backends"].items():
        if unknown := set(backend["lacks"]) - set(ABILITIES):
            raise ValueError(f"[tool.eckart.backends] {name}: no such ability as {unknown}.")
        group = backend.get("group", name)
        modes = {"1": ", x64 on", "0": ", x64 off"}
        x64 = modes.get(backend.get("environment", {}).get("JAX_ENABLE_X64"), "")
        library = version(groups, group, backend["module"]) + x64
        rows.append(
            [
                f"`{name}`",
                library + ", GPU" * ("device" in backend),
                *("–" if word in backend["lacks"] else "✓" for word in ABILITIES),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
