"""The command line of the benchmarks: what to run, on which sizes, and where to write it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cases
import measure
from cases import Sizes
from report import Report, Table


class Work(NamedTuple):
    """A section of the page and what measures it."""

    heading: str
    run: Callable[[Sizes], list[Table]]


def main(description: str | None, works: Mapping[str, Work], report: Report) -> None:
    """Run the works one after another, each in a process of its own, and write the page."""
    options = arguments(description, works, report.path)
    sizes = cases.QUICK if options.quick else cases.FULL
    sections = [
        (works[name].heading, measure.fresh(works[name].run, sizes))
        for name in options.only or works
    ]
    partial = options.quick or options.only
    path = options.page or (None if partial else report.path)
    if path and not options.no_page:
        path.write_text(report.page(sections), encoding="utf-8")


def arguments(description: str | None, works: Mapping[str, Work], path: Path) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", action="append", choices=works, help="run this work; repeatable")
    parser.add_argument("--quick", action="store_true", help="small matrices, to try the script")
    parser.add_argument("--no-page", action="store_true", help="print without writing the page")
    parser.add_argument(
        "--page", type=Path, help=f"where to write the page, docs/{path.name} for a full run"
    )
    return parser.parse_args()
