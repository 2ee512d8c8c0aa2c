"""What all detectors ask of a text: its words, letters and visible characters."""

import re
import unicodedata
from collections import Counter

SPACELESS = r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{SPACELESS}]|(?:(?![{SPACELESS}])[^\W_])(?:(?![{SPACELESS}])\w|['’\-](?=[^\W_]))*")
_ASCII_WORD = re.compile(r"[^\W_](?:\w|['\-](?=[^\W_]))*")  # the same of ASCII, many times as fast
FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)


def without_code(text: str) -> str:
    """The text with a blank for each piece of code."""
    return CODE.sub(" ", text) if "`" in text or "~~~" in text else text


def characters(text: str) -> int:
    """Characters a reader sees: code points of the composed form without white space, marks and joiners."""
    bare = "".join(unicodedata.normalize("NFC", text).split())
    if bare.isascii():
        return len(bare)
    kinds = Counter(map(unicodedata.category, bare))
    return len(bare) - kinds["Mn"] - kinds["Me"] - kinds["Cf"]


def letters(text: str) -> int:
    """Letters of a text, vowel signs and other marks included, which are letters to those who write Indic scripts."""
    if text.isascii():
        return sum(map(str.isalpha, text))
    return sum(count for kind, count in Counter(map(unicodedata.category, text)).items() if kind[0] in "LM")


def words(text: str) -> int:
    """Words of a text; each Han or kana character counts as one, since Chinese and Japanese write no spaces.

    Thai, Lao, Khmer and Burmese have no spaces either: there a run of letters counts once, so compare `characters`.
    """
    return len(_ASCII_WORD.findall(text)) if text.isascii() else len(_WORD.findall(unmarked(text)))


def unmarked(text: str) -> str:
    """The text without vowel signs, accents set apart and joiners, none of which ends a word."""
    return text if text.isascii() else "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Mc", "Me", "Cf"))
