"""Settings of Sphinx, which `make docs` runs to build the documentation site in build/docs."""

import re

from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

from sparsetrain.version import __version__

project = "SparseTrain"
author = "the SparseTrain contributors"
project_copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4  # links such as kernels.md#other-processors, as GitHub has them

autosummary_generate = False  # the pages in docs/api list the members
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True  # names of constants, not their values
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False

nitpicky = True
nitpick_ignore_regex = [
    # Other projects document these. Their inventories would need a network during the build.
    (r"py:.*", r"(torch|nn|np|numpy|click|optim|os|plotly|go|pathlib|collections)\..*"),
    (r"py:.*", r"types\..*"),
    (r"py:.*", r"(Tensor|Module|Path|Iterator|Iterable|Sequence|Mapping|Callable|Any|Literal).*"),
    # Internal types in signatures.
    (r"py:.*", r"(sparsetrain\.)?_C\..*"),
    (r"py:.*", r".*\.M"),
]

default_role = "code"  # of single backticks in docstrings
smartquotes = False  # they turn the dashes of options into others
html_theme = "furo"
html_title = f"SparseTrain {__version__}"
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp"


_parse_sections = GoogleDocstring._parse


def _parse_as_text(self: GoogleDocstring) -> None:
    """Parses the docstring of a property like that of a method.

    Napoleon would take text before a colon in its first line for a type.
    """
    self._what = "method" if self._what in ("attribute", "data", "property") else self._what
    _parse_sections(self)


GoogleDocstring._parse = _parse_as_text  # type: ignore[method-assign]

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]*)\]\(\.\./([^)]*)\)")


def name_files_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Replaces links to files outside docs, which the site does not contain, by their paths."""
    source[0] = _OUTSIDE.sub(r"`\2`", source[0])


def escape_bars(app: Sphinx, kind: str, name: str, *details: object) -> None:
    """Escapes |g| (a magnitude) in docstrings, which would be a substitution, except in code."""
    lines: list[str] = details[-1]  # type: ignore[assignment]
    for number, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", name_files_outside)
    app.connect("autodoc-process-docstring", escape_bars)
