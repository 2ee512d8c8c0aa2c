"""Tell what is wrong with a prompt and its answers that no single text tells: echoes, twins, languages, turns, personal data.

Like `detectors`, of which this makes use, nothing here asks a model or takes more than linear time.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from os.path import commonprefix
from typing import Any, NamedTuple

from curate.errors import UsageError
from curate.maths import detectors

Message = Mapping[str, Any]

# ---- twins ---------------------------------------------------------------------------------------------------------

_HAN = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])\w)+(?:['’](?:(?![{_HAN}])\w)+)*")
_ASCII_WORD = re.compile(r"\w+(?:'\w+)*")  # the same of ASCII, many times as fast
_OPERATOR = re.compile(
    r"[+<>=^%±×÷≠≤≥]|(?<=[\w)])[ \t]*(?<!\*)\*(?!\*)[ \t]*(?=[\w(])|(?<=\d)[ \t]*[/−-][ \t]*(?=\d)|(?<![\w*-])-(?=\d)"
)
"""What computes or compares; not the marks of lists and emphasis."""
_CODE = re.compile(r"```|^\s*(?:def |return\b|import |class \w+[:(]|#include|public |function |const )", re.MULTILINE)
_NEGATIONS = """
    not no never none nor neither cannot without nicht kein keine keinen nie ne pas jamais sans non mai senza sin nunca não
    nem bez не нет ни без değil yok 不 没 沒 未 无 無 非 لا ليس لم لن
"""
_NEGATION = frozenset(_NEGATIONS.split())


def likeness(first: str, second: str) -> float:
    """How alike two texts are in wording, in [0, 1]: 1 for the same words in the same order.

    Dice's coefficient of their pairs of neighbouring words; case, spacing and punctuation do not count. It is 0 where they
    differ in a number, an operator, a negation or a single letter, which changes what is said, and where they are programs
    that differ in more than spacing.
    """
    if _CODE.search(first) or _CODE.search(second):
        return float(" ".join(first.split()) == " ".join(second.split()))
    words = [_words(text) for text in (first, second)]
    if not words[0] or not words[1]:
        return float(" ".join(first.split()) == " ".join(second.split()))
    if any(map(_matters, set(words[0]) ^ set(words[1]))):
        return 0.0  # most are told by this look alone
    differing = [word for count in _differing(*map(Counter, words)) for word in count]
    if any(map(_matters, differing)) or _operators(first) != _operators(second):
        return 0.0
    pairs = [Counter(pairwise(["", *each, ""])) for each in words]
    return 2 * (pairs[0] & pairs[1]).total() / (pairs[0].total() + pairs[1].total())


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _differing(first: Counter[str], second: Counter[str]) -> tuple[Counter[str], Counter[str]]:
    return first - second, second - first


def _matters(word: str) -> bool:
    return (
        (not word.isalpha() and any(c.isdigit() for c in word))
        or word in _NEGATION
        or word.endswith(("n't", "n’t"))
        or (len(word) == 1 and word.isascii())
    )


def _operators(text: str) -> list[str]:
    return [found.strip() for found in _OPERATOR.findall(text)]


# ---- echo ----------------------------------------------------------------------------------------------------------

ECHO_LEAD = 80
"""Characters that may stand before an echo: "Sure! You asked: …"."""

ECHO_WORDS = 5
"""Words of the shortest prompt whose echo is one: shorter ones recur in any answer to them."""


def echo(asked: str, answer: str) -> float:
    """Share of a prompt, in [0, 1], that an answer repeats word by word at its beginning; 0 for a prompt of a few words."""
    # beyond 20 times the prompt nothing can begin with it; folding all of a long answer would take time for nothing
    prompt, text = _folded(asked), _folded(answer[: 4 * (len(asked) + ECHO_LEAD)])
    if detectors.words(prompt) < ECHO_WORDS:
        return 0.0
    at = text[: ECHO_LEAD + 20].find(prompt[:20])
    return len(commonprefix([prompt, text[at:]])) / len(prompt) if at >= 0 else 0.0


def _folded(text: str) -> str:
    """The words alone, one space between them."""
    return " ".join(_words(text))


# ---- left-overs ----------------------------------------------------------------------------------------------------

_THOUGHT = re.compile(
    r"</?(?:think|thinking|thought|thoughts|reasoning|scratchpad|reflection|inner_monologue)>"
    r"|<\|(?:begin|end)_of_thought\|>|<\|channel\|>\s*analysis|◁/?think▷|\[/?THINK\]"
)
_QUOTED_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)


def thought(text: str) -> str | None:
    """The first mark of a model's private reasoning left in a text, or None; code is left out."""
    if not any(mark in text for mark in "<[◁"):
        return None
    found = _THOUGHT.search(_QUOTED_CODE.sub(" ", text))
    return found.group() if found else None


def left_over(text: str) -> str | None:
    """The first piece of a chat or prompt template left in a text, marks of reasoning not counted, or None."""
    piece = detectors.template_leftover(text)
    return detectors.template_leftover(_THOUGHT.sub(" ", text)) if piece is not None and _THOUGHT.search(piece) else piece


# ---- language ------------------------------------------------------------------------------------------------------

LANGUAGE_READ = 500
"""Characters of a text that its language is told by."""

LANGUAGE_LETTERS = 24
"""Letters a text needs for its language to be held against another; of shorter ones the model is not sure."""

_ALIKE = ("da no", "hr bs sr", "id ms", "cs sk", "bg mk", "gl pt es", "af nl", "hi ne mr", "fa ur")
_ALIKE_OF = {code: place for place, codes in enumerate(_ALIKE) for code in codes.split()}
_NAMES = """
    afrikaans albanian arabic armenian azerbaijani basque belarusian bengali bosnian bulgarian catalan chinese mandarin
    cantonese croatian czech danish dutch english estonian finnish french galician georgian german greek gujarati hebrew
    hindi hungarian icelandic indonesian irish gaelic italian japanese kazakh khmer korean latin latvian lithuanian
    macedonian malay malayalam marathi mongolian nepali norwegian persian farsi polish portuguese punjabi romanian
    russian serbian sinhala slovak slovene slovenian spanish swahili swedish tagalog filipino tamil telugu thai turkish
    ukrainian urdu uzbek vietnamese welsh deutsch deutsche deutschen englisch englische englischen französisch spanisch
    italienisch anglais anglaise allemand français française espagnol italien russe chinois japonais inglés inglesa
    francés alemán español castellano italiano portugués ruso inglese francese tedesco spagnolo inglês francês alemão
    espanhol português engels frans duits nederlands angielski polsku polski angielsku niemiecku английский английском
    русский русском немецком французском ingilizce türkçe almanca fransızca
"""
_OTHER_TONGUE = re.compile(
    rf"\b(?:{'|'.join(_NAMES.split())})\b|\btrans(?:lat|cri|lit)|\btraduc|\btraduz|\btradui|\btradur|\bübersetz|\bvertaal"
    r"|\btłumacz|\bперев[её]д|\bпереклад|\bçevir|translate|[英日中韩法德俄西]文|[英日中韩韓法德俄西]语|[英日韓中]語|翻译|翻譯|翻訳|번역|영어|한국어|일본어|ترجم",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def _language(text: str) -> str | None:
    # scripts without case say more in a letter
    wide = 0 if text.isascii() else sum(unicodedata.category(c) == "Lo" for c in text)
    return detectors.language_code(text) if detectors.letters(text) + 2 * wide >= LANGUAGE_LETTERS else None


def names_a_language(text: str) -> bool:
    """Whether a text speaks of a language or of translating, as a prompt does that asks for another than its own."""
    return _OTHER_TONGUE.search(text) is not None


def languages(asked: str, answer: str) -> tuple[str, str] | None:
    """The languages of a prompt and of its answer; None where either is not sure."""
    wanted, found = _language(asked[:LANGUAGE_READ]), _language(answer[:LANGUAGE_READ])
    return None if wanted is None or found is None else (wanted, found)


def another_tongue(wanted: str, found: str) -> bool:
    """Whether two language codes are of languages that are not easily taken for each other."""
    return wanted != found and _ALIKE_OF.get(wanted, wanted) != _ALIKE_OF.get(found, found)


# ---- turns ---------------------------------------------------------------------------------------------------------

LEADING = ("system", "developer")


def turn_fault(prompt: Sequence[Message], completion: Sequence[Message] | None = None) -> str | None:
    """Why trainers refuse, or silently drop, such a conversation; None for a sound one.

    The rules that LLaMA-Factory, axolotl and the chat templates of Llama, Mistral and Gemma share: one system message at
    most, and first; then user and assistant in turn, beginning and ending with the user; tool results after tool calls; an
    answer that begins and ends with the assistant; no message without content. completion: the messages of an answer, None
    for a plain text.
    """
    if not prompt:
        return "the prompt has no message"
    talk = prompt[1:] if prompt[0]["role"] in LEADING else prompt
    if not talk:
        return f"the prompt is a {prompt[0]['role']} message alone"
    if talk[-1]["role"] in ("assistant", *LEADING):
        return f"the prompt ends with a message of role {talk[-1]['role']}"
    if fault := _order_fault(talk, "user"):
        return fault
    if completion is None:
        return None
    if completion and completion[-1]["role"] != "assistant":
        return f"the answer ends with a message of role {completion[-1]['role']}"
    return _order_fault([talk[-1], *completion], str(talk[-1]["role"])) if completion else "the answer has no message"


def _order_fault(talk: Sequence[Message], first: str) -> str | None:
    if talk[0]["role"] != first:
        return f"the conversation begins with a message of role {talk[0]['role']}"
    for place, message in enumerate(talk):
        role = message["role"]
        if not message.get("tool_calls") and not (message.get("content") or "").strip():
            return f"a message of role {role} has no content"
        if role in LEADING:
            return f"a {role} message stands behind others"
        if role == "function":
            return "role function is read by no chat template of today; it is called tool"
        if place and (fault := _follows(talk[place - 1], message)):
            return fault
    return None


def _follows(before: Message, message: Message) -> str | None:
    """Why a message may not follow the one before it."""
    role, last = message["role"], before["role"]
    if role == "tool":
        return None if last == "tool" or before.get("tool_calls") else "a tool message answers no tool call"
    if role == "user" and before.get("tool_calls"):
        return "a tool call has no result"
    if role == last or (role == "user" and last == "tool"):
        return f"a message of role {role} follows one of role {last}"
    return None


# ---- personal data -------------------------------------------------------------------------------------------------

PERSONAL = ("EMAIL", "PHONE", "CREDIT_CARD", "SSN", "DE_IBAN")
"""What is looked for, as datafog names it. Dates, postal codes and addresses of machines are in too many honest answers."""

PII_MISSING = "pii needs datafog, which is not installed: pip install 'curate[pii]'"
_MAY_HOLD = re.compile(r"@|\d(?:[\d ().+-]){6,}\d|\b[A-Z]{2}\d{2} ?\d{4}")
_NUMBER = re.compile(r"\d(?:[\d ().+-]{6,}\d|\d ?\d{4})")  # in all of those but addresses, and quick to look for
_PLACEHOLDER = re.compile(
    r"@(?:[\w-]+\.)*(?:example|test|invalid|localhost|email|domain|company|yourdomain|yourcompany|mydomain|website)\.\w+$"
    r"|^(?:your|user|name|first\.?last|someone|username)[\w.]*@|^git@",
    re.IGNORECASE,
)
_FICTION = re.compile(r"555\D?01\d\d|1234567890|123.?456.?7890|0123456789|(\d)\1{6}")


class Found(NamedTuple):
    """A piece of personal data."""

    kind: str
    """email, phone, credit card, ssn or de iban."""
    start: int
    end: int


def personal(text: str) -> Found | None:
    """The first piece of personal data in a text, or None: an address, telephone, card, insurance or account number.

    Placeholders (you@example.com, 555-0100) and card numbers with a wrong check digit do not count. Library: datafog, whose
    regular expressions run on this machine alone. UsageError if it is not installed.
    """
    if not ("@" in text or _NUMBER.search(text)) or not _MAY_HOLD.search(text):
        return None
    found = (Found(hit.type.lower().replace("_", " "), hit.start, hit.end) for hit in _scan(text))
    return min((hit for hit in found if _is_personal(hit.kind, text, hit)), key=lambda hit: hit.start, default=None)


def _scan(text: str) -> Sequence[Any]:
    try:
        import datafog
    except ImportError as error:
        raise UsageError(PII_MISSING) from error
    hits: Sequence[Any] = datafog.scan(text, engine="regex", entity_types=list(PERSONAL), locales=["de"]).entities
    return hits


def _is_personal(kind: str, text: str, hit: Found) -> bool:
    said = text[hit.start : hit.end]
    digits = "".join(c for c in said if c.isdigit())
    if kind == "email":
        return not _PLACEHOLDER.search(said)
    if kind == "credit card":
        return luhn(digits)
    if kind == "phone":
        # a run of digits alone is as often a number of something else
        parted = re.search(r"\d[ ().-]+\d|^\+", said) and not re.search(
            r"[\d=*/^]\s?$|\.$", text[max(hit.start - 2, 0) : hit.start]
        )
        return bool(parted) and len(digits) >= 10 and not _FICTION.search(said)
    return not _FICTION.search(said)


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others, as on payment cards. Source: ISO/IEC 7812-1, annex B."""
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return len(digits) >= 12 and len(set(digits)) > 1 and sum(d // 10 + d % 10 for d in doubled) % 10 == 0
