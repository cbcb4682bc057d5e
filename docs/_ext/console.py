"""A directive that runs shell commands at build time and shows each with what it printed.

The commands of one page run in order in one directory, which is empty at first. A page on which a
command ends with another exit code than the page declares does not build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# More characters than this do not fit the width of a page at the usual size.
_USUAL_WIDTH = 90


class Console(SphinxDirective):
    """``{console}``: one command a line.

    ``:exit:`` is the exit code of each, 0 if not given; ``:stderr:`` shows standard error too;
    ``:figure:`` shows a picture that the commands have drawn, with the text of ``:alt:``.
    """

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "exit": directives.nonnegative_int,
        "stderr": directives.flag,
        "figure": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Run the commands; return the session, and the picture if there is one."""
        page = Path(self.env.app.outdir).parent / "console" / self.env.docname
        if self.env.current_document.get("console") is None:
            self.env.current_document["console"] = page
            shutil.rmtree(page, ignore_errors=True)
            page.mkdir(parents=True)
        text = "\n\n".join(self._session(command, page) for command in self.content)
        block = nodes.literal_block(text, text, language="console")
        if self.options.get("exit"):
            block["classes"] += ["refusal"]
        elif max(map(len, text.splitlines())) > _USUAL_WIDTH:
            block["classes"] += ["wide"]
        self.set_source_info(block)
        if "figure" not in self.options:
            return [block]
        uri = os.path.relpath(page / self.options["figure"], self.env.srcdir)
        return [block, nodes.image(uri=f"/{uri}", alt=self.options.get("alt", ""))]

    def _session(self, command: str, page: Path) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=page,
            env=os.environ | {"PATH": path, "PYTHONUTF8": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "stderr" in self.options else subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != self.options.get("exit", 0):
            what = f"`{command}` ended with {done.returncode}: {done.stderr or done.stdout}"
            raise self.error(what)
        return "\n".join([f"$ {command}", *(line.rstrip() for line in done.stdout.splitlines())])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("console", Console)
    return {"version": "1", "parallel_read_safe": True}
