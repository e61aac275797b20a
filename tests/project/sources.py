"""Tracked files, and the prose and identifiers in them, for the tests in this folder."""

import ast
import io
import re
import subprocess
import tokenize

from helpers.paths import ROOT

PYTHON = {".py", ".pyi"}
CXX = {".h", ".inl", ".cpp", ".cu", ".cuh"}
HASH = {".toml", ".yml", ".yaml", ".txt", ".cmake"}
UNREADABLE = {".gz", ".png", ".jsonl", ".json"}


def tracked_files():
    """Paths of all files that git tracks and that exist, as strings relative to the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT, check=False)
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def text_files():
    """Tracked files that people write and read."""
    return [name for name in tracked_files() if not name.endswith(tuple(UNREADABLE))]


def code_files():
    """Tracked files of Python, C++ and CUDA code."""
    return [name for name in tracked_files() if name.endswith((*PYTHON, *CXX))]


def prose(name):
    """(line, text) for each docstring, block of comments, and paragraph of a page."""
    text = (ROOT / name).read_text()
    if name.endswith(tuple(PYTHON)):
        return [*_docstrings(text), *_blocks(_python_comments(text))]
    if name.endswith(tuple(CXX)):
        return list(_blocks(_cxx_comments(text)))
    if name.endswith(".md"):
        return list(_paragraphs(text))
    if name.endswith(tuple(HASH)) or "Makefile" in name or name == "CMakeLists.txt":
        return list(_blocks(_hash_comments(text)))
    return []


def identifiers(name):
    """(line, identifier) for each name in the code of a file, outside of comments and strings.

    The name of an attribute begins with a dot.
    """
    text = (ROOT / name).read_text()
    if name.endswith(tuple(PYTHON)):
        before = ""
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield token.start[0], "." + token.string if before == "." else token.string
            before = token.string
        return
    code = re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"', "", text)
    for number, line in enumerate(code.splitlines(), start=1):
        for match in re.finditer(r"(?:\.|->)?\b[A-Za-z_]\w*", line):
            yield number, re.sub(r"^(\.|->)", ".", match[0])


def _docstrings(text):
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def _python_comments(text):
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            alone = lines[line - 1].lstrip().startswith("#")
            yield line, token.string.lstrip("#! "), alone


def _cxx_comments(text):
    for line, content in enumerate(text.splitlines(), start=1):
        code = re.sub(r'"(?:\\.|[^"\\])*"', lambda match: " " * len(match[0]), content)
        start = code.find("//")
        if start >= 0:
            yield line, content[start:].lstrip("/ "), code[:start].strip() == ""


def _hash_comments(text):
    for line, content in enumerate(text.splitlines(), start=1):
        start = content.find("# ")
        if start >= 0:
            yield line, content[start:].lstrip("# "), content[:start].strip() == ""


def _blocks(comments):
    """Joins comments that stand alone on neighboring lines."""
    block, first, last = [], 0, -1
    for line, text, alone in comments:
        if block and (not alone or line != last + 1):
            yield first, "\n".join(block)
            block = []
        if not alone:
            yield line, text
            continue
        first = first if block else line
        block.append(text)
        last = line
    if block:
        yield first, "\n".join(block)


def _paragraphs(text):
    """Paragraphs, list items and cells of tables, without blocks of code and HTML comments."""
    text = re.sub(r"```.*?```|<!--.*?-->", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)
    block, first = [], 0
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        starts = re.match(r"\s*([-*] |\d+\. |#|\||$)", line)
        if starts and block:
            yield first, "\n".join(block)
            block = []
        if line.lstrip().startswith("|"):
            yield from ((number, cell.strip()) for cell in line.split("|"))
        elif line.strip():
            first = first if block else number
            block.append(re.sub(r"^\s*([-*] |\d+\. |#+ )", "", line) if not block else line)
