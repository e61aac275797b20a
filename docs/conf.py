"""Settings of Sphinx, which `make docs` runs to build the documentation site in build/docs."""

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
exclude_patterns = ["requirements.txt"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4  # links such as kernels.md#other-processors, as GitHub has them

autosummary_generate = False  # the pages in docs/api list the members
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False

nitpicky = True
# Names that other projects document. Their inventories would need a network during the build.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|np|numpy|click|optim|os|plotly|go|pathlib|collections)\..*"),
    (r"py:.*", r"(Tensor|Module|Path|Iterator|Iterable|Sequence|Mapping|Callable|Any|Literal).*"),
]

html_theme = "furo"
html_title = f"SparseTrain {__version__}"
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp"
