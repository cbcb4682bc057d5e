"""Sphinx settings. Every output on the pages is printed while they are built."""

import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
import backends

project = "eckart"
author = "The eckart developers"
version = release = installed_version("eckart")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "console",
]
exclude_patterns = ["_build", "_ext"]

# Pages that are notebooks run from top to bottom at every build; an exception fails it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What JAX compiles runs once: it is compiled four times as fast without optimisation.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on small matrices threads cost more than they save

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"backends": backends.table()}
if backends.table() not in (backends.ROOT / "README.md").read_text(encoding="utf-8"):
    raise ConfigError(
        "README.md must hold the table of [tool.eckart.backends], but holds another. "
        "Run `python docs/_ext/readme.py`."
    )

# The docstrings say the types in words, so the signatures stay short.
default_role = "autolink"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
nitpick_ignore = [("py:exc", "TypeError"), ("py:exc", "ValueError")]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["console.css"]
html_title = f"eckart {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def setup(app):
    """Let every docstring have its own list of references."""
    app.connect("autodoc-process-docstring", list_references)


def list_references(app, what, name, obj, options, lines):
    """``[1]_`` becomes ``[1]``, and ``.. [1]`` an item of a list: footnotes of a page clash."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"\[(\d+)\]_", r"[\1]", re.sub(r"^\.\. \[(\d+)\]", r"\1.", line))
