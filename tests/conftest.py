"""One suite on every library: ``pytest --backend=NAME`` with a name of the table.

A test's folder says where it runs, and the library says how many of its cases: see
docs/development.md. ``--exhaustive`` runs every case of every folder on the library.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

import backends
from covering import covering

pytest.register_assert_rewrite("compare", "truth", "blocks")

# Folders that do not run on every library: array-api-strict and PyTorch take other paths through
# the algorithms than NumPy does; what JAX and Dask have of their own, the other folders are about.
FOLDERS = {"mathematics": ("numpy", "array_api_strict", "torch"), "cli": ("numpy",)}

# JAX compiles each function for each shape and dtype. So two of its settings share the tests: one
# runs every folder in complex double precision, the other `portable` in real single precision. What
# has the mark `precision` runs in every dtype on both.
SHARED = {"jax": "complex128", "jax32": "float32"}

VALUE, PAIR = 1, 2  # what is to be among the cases of a test that run: see `covering`
HOMES = {("derivatives", "torch")}  # pairs there, on other libraries but NumPy values


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", default="numpy", help="a line of [tool.eckart.backends]")
    parser.addoption("--exhaustive", action="store_true", help="every case: it takes the night")


def pytest_configure(config: pytest.Config) -> None:
    options = {"compiler": "inductor"} if config.getoption("--exhaustive") else {}
    try:
        config.stash[BACKEND] = backends.load(config.getoption("--backend"), **options)
    except backends.MissingBackendError as error:
        raise pytest.UsageError(str(error)) from error


BACKEND = pytest.StashKey[backends.Backend]()


def pytest_report_header(config: pytest.Config) -> str:
    backend = config.stash[BACKEND]
    version = getattr(__import__(backend.library), "__version__", "")
    lacks = ", ".join(sorted(backend.lacks)) or "nothing"
    return f"backend: {backend.name} ({backend.library} {version}), lacks {lacks}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    backend = metafunc.config.stash[BACKEND]
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", backend.dtypes())
    if "half" in metafunc.fixturenames:
        metafunc.parametrize("half", backends.HALF)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    backend = config.stash[BACKEND]
    library = backend.library
    kept = [item for item in items if _belongs(item, backend)]
    if not config.getoption("--exhaustive"):
        kept = [item for item in kept if library in FOLDERS.get(_folder(item), (library,))]
        kept = [item for item in kept if _has_share(item, backend)]
        tests = groupby(kept, lambda item: (item.path, getattr(item, "originalname", item.name)))
        kept = [item for _, cases in tests for item in _thinned(list(cases), backend)]
    config.hook.pytest_deselected(items=list(set(items) - set(kept)))
    items[:] = kept


def _belongs(item: pytest.Item, backend: backends.Backend) -> bool:
    if item.get_closest_marker("numpy_only") and backend.name != "numpy":
        return False
    only = [name for mark in item.iter_markers("only") for name in mark.args]
    if only and backend.library not in only:
        return False
    needed = [word for mark in item.iter_markers("needs") for word in mark.args]
    if "half" in getattr(item, "fixturenames", ()):
        needed.append("half")
    return all(backend.can(capability) for capability in needed)


def _has_share(item: pytest.Item, backend: backends.Backend) -> bool:
    if backend.name not in SHARED or item.get_closest_marker("precision"):
        return True
    if _folder(item) != "portable" and not backend.can("double"):
        return False
    own = SHARED[backend.name]
    return not hasattr(item, "callspec") or item.callspec.params.get("dtype", own) == own


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def _thinned(cases: list[pytest.Item], backend: backends.Backend) -> list[pytest.Item]:
    """The cases of a test to run: NumPy, which takes no time for them, runs the whole product."""
    if len(cases) == 1 or backend.library == "numpy":
        return cases
    strength = PAIR if (_folder(cases[0]), backend.library) in HOMES else VALUE
    values = [{name: id(value) for name, value in case.callspec.params.items()} for case in cases]
    return [cases[i] for i in covering(values, strength)]


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> backends.Backend:
    return pytestconfig.stash[BACKEND]


@pytest.fixture(scope="session")
def xp(backend: backends.Backend) -> object:
    return backend.xp


@pytest.fixture(scope="session")
def widest(backend: backends.Backend) -> str:
    """One dtype, for what is true of all for one reason: JAX compiles anew for each shape."""
    return backend.dtypes()[-1]
