"""Prose and names: comments, docstrings and pages keep the rules of CONTRIBUTING.md."""

import re

from helpers.paths import ROOT
from sources import code_files, identifiers, prose, text_files

# Pages that quote what the rules forbid.
QUOTES = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "tests/project/sources.py",
    "tests/project/test_prose.py",
}
FILES = [name for name in text_files() if name not in QUOTES]
CODE = [name for name in code_files() if name not in QUOTES]

# A sentence that begins so leaves out its subject.
SENTENCE = re.compile(r"(?:(?<=[.!?]\s)|(?<=[.!?][)`]\s))(The same|Nor|But for)\b")
BLOCK = re.compile(r"\A\s*(The same|Nor|Not|So|But for)\b(?! that)")

PHRASES = re.compile(
    r"\b(as it were|where somebody|what wants|nothing wants|the same of|not but|left alone"
    r"|once every|(?:is|are|was|were) told|stands behind|lies behind|behind it)\b"
)

BRITISH = re.compile(
    r"\b\w*(?:normalis|utilis|synchronis|optimis|initialis|serialis|vectoris|quantis|summaris"
    r"|recognis|minimis|maximis|organis|parallelis|colour|neighbour|behaviour|favour|honour"
    r"|analys(?:e|ed|ing)\b|catalogue|centre|licence|grey|labelled|modelled|cancelled|artefact"
    r"|travell|programme\b|judgement)\w*",
    re.IGNORECASE,
)
# Identifiers of before the names in the glossary; attributes begin with a dot.
OLD_NAME = re.compile(
    r"\A(\.?(spread|correlate|exchanged_roles|by_input|roles|telemetry|observe|observe_grad"
    r"|input_observer|grad_observer|direction|up_|f_|s_|own|told|natural|again)"
    r"|\.seen|\.lagged)\Z"
)


def hits(pattern, texts_of, files=FILES):
    """Where a pattern matches, as "file:line: match"."""
    return [
        f"{name}:{line + text[: match.start()].count(chr(10))}: {match[0].strip()}"
        for name in files
        for line, text in texts_of(name)
        for match in pattern.finditer(text)
    ]


def words(name):
    """Prose without quoted code."""
    return [(line, re.sub(r"`[^`\n]*`", "``", text)) for line, text in prose(name)]


def test_sentences_have_a_subject():
    assert hits(SENTENCE, prose) + hits(BLOCK, prose) == []


def test_no_riddles():
    assert hits(PHRASES, prose) == []


def test_american_spelling():
    assert hits(BRITISH, words) + hits(BRITISH, identifiers, CODE) == []


def test_old_names_are_gone():
    assert hits(OLD_NAME, identifiers, CODE) == []


def test_no_file_names_a_machine():
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/")
    assert [name for name in FILES if pattern.search((ROOT / name).read_text())] == []


def test_rules_find_planted_faults():
    assert SENTENCE.search("It skips zeros. The same for dy.")
    assert BLOCK.search("Nor taps that meet padding.")
    assert not SENTENCE.search("At the same time, nor is it.")
    assert BLOCK.search("Not for CUDA.")
    assert BRITISH.search("utilisation") and not BRITISH.search("precise")
