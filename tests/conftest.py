"""One suite on every library: ``pytest --backend=NAME`` with a name of the table."""

from __future__ import annotations

import pytest

import backends

pytest.register_assert_rewrite("compare")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", default="numpy", help="a line of [tool.eckart.backends]")


def pytest_configure(config: pytest.Config) -> None:
    try:
        config.stash[BACKEND] = backends.load(config.getoption("--backend"))
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
    out = [item for item in items if not _belongs(item, backend)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in set(out)]


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


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> backends.Backend:
    return pytestconfig.stash[BACKEND]


@pytest.fixture(scope="session")
def xp(backend: backends.Backend) -> object:
    return backend.xp
