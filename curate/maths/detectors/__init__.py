"""Tell whether a text refuses, stops short, loops, leaks a template, and which language it is in.

Every detector reads one text, answers without a model call or a download, and takes time linear in its length.
"""

from curate.maths.detectors.language import LANGUAGES, language, language_code
from curate.maths.detectors.refusal import refusal
from curate.maths.detectors.repetition import REPETITIVE, repetition
from curate.maths.detectors.template import template_leftover
from curate.maths.detectors.text import characters, letters, words
from curate.maths.detectors.truncation import truncation

__all__ = [
    "LANGUAGES",
    "REPETITIVE",
    "characters",
    "language",
    "language_code",
    "letters",
    "refusal",
    "repetition",
    "template_leftover",
    "truncation",
    "words",
]
