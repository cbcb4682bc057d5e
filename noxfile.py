"""The sessions that decide what lands; the workflows run these and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
BACKENDS = PROJECT["tool"]["eckart"]["backends"]
CPU = [name for name, row in BACKENDS.items() if "device" not in row]
VERSIONED = ("tests/portable", "tests/kinds", "tests/cli")  # calls of other packages, not numbers
PYTHONS = nox.project.python_versions(PROJECT)

OTHERS = [version for version in PYTHONS if version != f"3.{sys.version_info.minor}"]


def runs(version: str) -> bool:
    """Whether this Python is found and starts; pyenv's shims are found and may not start."""
    found = shutil.which(f"python{version}")
    return (
        found is not None
        and not subprocess.run([found, "--version"], capture_output=True).returncode
    )


# The newest that is found; if none is, a session that says so and is skipped.
NEWEST = next((version for version in reversed(OTHERS) if runs(version)), OTHERS[-1])

nox.options.sessions = [
    *(f"tests({name})" for name in CPU),
    "minimums",
    f"pythons-{NEWEST}",
    "lint",
    "docs",
]


def install(session: nox.Session, *groups: str, project: str = ".[cli,plot]") -> None:
    """Install the project and what the groups pin."""
    session.install(*nox.project.dependency_groups(PROJECT, *groups), project)


def run_suite(session: nox.Session, backend: str, *paths: str) -> None:
    """Run the tests on one library, measuring what they cover."""
    data = Path(".coverage-data").absolute()
    data.mkdir(exist_ok=True)
    for old in data.glob(f".coverage.{session.name}.*"):
        old.unlink()
    row = BACKENDS[backend]
    variables = row.get("environment", {})
    # A shape is compiled once by the process that has its file.
    spread = "loadfile" if "jit" not in row["lacks"] else "worksteal"
    session.run(
        *("coverage", "run", "-m", "pytest", f"--backend={backend}"),
        *("--numprocesses=auto", f"--dist={spread}", *paths, *session.posargs),
        # As many processes as cores: threads of a library's own would only be in their way.
        env={
            "OMP_NUM_THREADS": "1",
            **variables,
            "COVERAGE_FILE": str(data / f".coverage.{session.name}"),
        },
    )


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def tests(session: nox.Session, backend: str) -> None:
    """Run the suite on one library of the table in pyproject.toml."""
    install(session, BACKENDS[backend].get("group", backend), "test", "cli")
    if backend == "numpy":
        session.install(*nox.project.dependency_groups(PROJECT, "numpy", "sparse"))  # brings Numba
        # The package carries a checkpoint; what it would need to run the model is not needed.
        session.install("--no-deps", *nox.project.dependency_groups(PROJECT, "checkpoint"))
    run_suite(session, backend)


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Run what differs between versions of Python on every supported one that is found."""
    install(session, "numpy", "test", "cli")
    run_suite(session, "numpy", *VERSIONED)


@nox.session
def minimums(session: nox.Session) -> None:
    """Run what differs between versions on the lowest that the project declares."""
    extras = PROJECT["project"]["optional-dependencies"]
    declared = [*PROJECT["project"]["dependencies"], *extras["cli"], *extras["plot"]]
    lowest = [pin.replace(">=", "==") for pin in declared]
    session.install(*lowest, *nox.project.dependency_groups(PROJECT, "test"), ".[cli,plot]")
    run_suite(session, "numpy", *VERSIONED)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and the direction of imports."""
    install(session, "lint", "cli", "torch", "jax", "dask")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, running every example in it; warnings are errors."""
    install(session, "docs", "cli", "torch", "jax", "dask")
    session.install("--no-deps", *nox.project.dependency_groups(PROJECT, "checkpoint"))
    session.run("python", "-m", "doctest", "README.md")
    # Pages run while they are read, one in each process; the second builder takes what was read.
    for builder in "html", "doctest":
        session.run(
            *("sphinx-build", "-j", "auto", "-W", "--keep-going", "-n", "-b", builder),
            *("-d", "docs/_build/doctrees", "docs", f"docs/_build/{builder}"),
        )


@nox.session
def coverage(session: nox.Session) -> None:
    """Say what the test sessions that have run covered together."""
    session.install(*nox.project.dependency_groups(PROJECT, "test"))
    session.run("coverage", "combine", "--keep", ".coverage-data")
    session.run("coverage", "report")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure the overhead and the truncated SVD beside its peers, and write docs/benchmarks.md."""
    install(session, "torch", "jax", "dask", "benchmarks")
    session.run("python", "tests/benchmarks/overhead.py")
    session.run("python", "tests/benchmarks/truncation.py", *session.posargs)


@nox.session
def benchmarks_gpu(session: nox.Session) -> None:
    """Measure the truncated SVD beside its peers on a GPU, and write docs/benchmarks-gpu.md."""
    install(session, "torch-cuda", "jax-cuda", "cupy", "benchmarks")
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX would take most of the memory
    session.run("python", "tests/benchmarks/gpu.py", *session.posargs, env=shared)
