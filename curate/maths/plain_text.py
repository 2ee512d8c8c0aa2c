"""A model's free text made plain for readers of final answers: signs of every script as ASCII, and where the answer ends."""

import re
import unicodedata

EXTRA = {"−": "-", "–": "-", "‒": "-", "‑": "-", "﹣": "-", "⁄": "/", "∕": "/", "٪": "%", "٫": ".", "٬": ",", "’": "'"}
EXTRA |= dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " ")
NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#+ ?|\*\*)?(?:Question|Problem|Q|Human|User|Instruction|Exercise|Example)(?: ?\d+)?\**[ \t]*[:.]"
    r"|<\|(?:im_end|endoftext|eot_id|user|im_start)\|>|</s>|\[INST\]"
)


def made_plain(text: str) -> str:
    """The text with digits, signs and blanks of every script as ASCII, position for position."""
    return text if text.isascii() else re.sub(r"[^\x00-\x7f]", _plain_character, text)


def _plain_character(match: re.Match[str]) -> str:
    character = match.group()
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if "！" <= character <= "～":
        return chr(ord(character) - 0xFEE0)
    return EXTRA.get(character, character)


def first_block(plain: str, cue: re.Pattern[str]) -> str:
    """The text up to where, its answer given, it goes on to another question, as base models do."""
    first = cue.search(plain)
    following = NEXT_QUESTION.search(plain, first.end()) if first else None
    return plain[: following.start()] if following else plain
