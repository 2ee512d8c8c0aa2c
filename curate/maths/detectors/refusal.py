"""Tell whether a response declines what was asked."""

import re
import unicodedata

from curate.maths.detectors.refusal_wordings import DECLINES, DISCLAIMS, EN_LIMITED, first
from curate.maths.detectors.text import characters

LEAD_CHARS = 600
"""A refusal comes early: one first met after this many characters is a caveat to an answer already given."""

_LIMITED = re.compile(
    rf"\b(?:provide|give|offer|share|make|recommend|answer)\b (?:you )?(?:with )?(?:an? |the |any )?{EN_LIMITED}\b"
)
_IDIOM = re.compile(
    r"\bi (?:really |just |simply |still )*(?:can't|cannot|can not|couldn't|could not|won't) (?:even )?"
    r"(?:help (?:but|myself|(?!with)\w+ing)|wait|believe|imagine|agree more|stress|emphasi[sz]e|overstate|thank"
    r"|tell you how|describe how|express how|explain (?:how (?:much|happy|grateful)|why,? but)|say (?:enough|that i|i)"
    r"|(?:\w+ ){1,6}enough|make it|take it|give up|do without|do it (?:alone|without)|give it up"
    r"|give you up|tell (?:if|whether|what|who|the difference|them|him|her)|show my face|answer the (?:phone|door))"
    r"|\b(?:can't|cannot|couldn't) recommend \w+(?: \w+)? (?:enough|highly|more)"
)
_QUOTED = re.compile(
    r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»|„[^“”\n]{1,400}[“”]|「[^」\n]{1,400}」|『[^』\n]{1,400}』"
)
_DELIVERY = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|okay|ok|great|yes|no problem)\b[^.\n]{0,20}[,.!:]? )?"
    r"(?:here(?:'s| is| are)\b|below (?:is|are)\b|subject:|dear \w|betreff:|objet ?:|asunto:|oggetto:|assunto:|onderwerp:"
    r"|temat:|тема:|件名|主题|主題|konu:|sehr geehrte|hier ist|hier sind|voici|aquí (?:tienes|está|hay)|ecco|aqui est"
    r"|вот |oto |hier is|hier zijn|işte |以下|当然|يمكنك|اليك)"
)
_CONCEDES = re.compile(r"\s*(?:while|although|though|even though|even if)\b")
_BUT = r"\b(?:but|however|aber|mais|pero|ma|mas|maar|ale|но|ama)\b|但|が、"
_HANDOVER = re.compile(
    r"\b(?:here(?:'s| is| are)|below (?:is|are)|hier (?:ist|sind|is|zijn)|voici|aquí (?:tienes|está|hay)|ecco|aqui est"
    r"|вот|oto|işte|以下は|以下是|اليك)(?!\w)(?![^.:\n]{0,80}\b(?:alternative|safe|legal|ethical|resource|hotline|number|instead|(?:i|we|you) (?:can|could|might)))"
)
_ELSEWHERE = re.compile(
    r"(?:please|recommend|suggest|advise|encourage|best to|urge|should|try|you (?:can|could|may|might)).{0,40}"
    r"(?:consult|check|contact|visit|speak|talk|refer|reach|seek|look|call|search|website|app|professional|doctor|lawyer)"
    r"|\bi(?:'d| would)? (?:strongly |highly )?(?:suggest|recommend|advise|encourage|urge)|important to|my (?:purpose|goal|aim)"
    r"|designed to|let me know|feel free|anything else|happy to|glad to|would you like|is there|if you (?:need|have|'d|would|want|are)"
    r"|how (?:can|may) i|i(?:'d| would| can| could| am|'m) (?:be )?(?:happy|glad|here|instead|help)|understand|sorry"
)
_SPOKEN = re.compile(r"^(?!user|human|assistant)\w[\w .']{0,25}: (?=\w)", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?。！？؟\n]+[.!?。！？؟\n]*")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "´": "'"})
_DROPPED = re.compile(r"[*_#>~\u200b-\u200f\u2060\ufeff\u0307\u0640\u064b-\u0652]+")
SHORT_CHARS = 300  # reluctance counts in short replies alone: a long one that begins with it goes on to answer
_RELUCTANT = re.compile(
    r"\bi(?: would|'d)(?: \w+)? (?:rather not|prefer not to)\b"
    r"|\bi (?:would not|wouldn't|do not|don't) (?:\w+ )?"
    r"(?:(?:wish|like) to|want to (?:be|confirm|give|guess|judge|mislead|name|recommend|say|speculate)|feel right)\b"
    r"|\bi(?:'m| am) (?:hesitant|reluctant|unwilling) to\b|\b(?:not|n't) in a position to\b"
    r"|\b(?:better|have to|need to|must|'ll) (?:decline|leave (?:this|that|it)(?: one)? to)\b"
    r"|\badvise (?:you )?(?:against|not to)\b|\b(?:can't|cannot|couldn't|could not) take responsibility\b"
    r"|\b(?:am|'m) (?:\w+ )?(?:not able|unable) to\b|\bi(?:'d| would) ask \w+ \w+ rather than\b"
    r"|\b(?:can't|cannot|can not) (?:judge|interpret|extract|offer|decide|determine|confirm|compare|estimate|say|tell|comment)\b"
    r"|\bi (?:do not|don't|try not to|never) (?:give|write|solve|offer|take sides|comment|answer|process|discuss)\b"
    r"|\bi (?:should|will|would) not (?:propose|suggest|name|recommend|go into|provide|guess)\b|\bwon't go into\b"
    r"|\b(?:will|must|prefer to) (?:stay|remain) neutral\b|\bnon vorrei\b|\bnão (?:escrevo|respondo|faço|dou)\b"
    r"|\bpreferisco non\b|\bpreferiría no\b|\bich möchte (?:\w+ )*nicht\b|\bje (?:préfère|préférerais) ne pas\b"
)
_ALEF = str.maketrans("أإآى", "اااي")


def refusal(text: str) -> bool:
    """Whether a response declines what was asked, for policy or for want of ability, and leaves it at that.

    Read in English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Russian, Arabic, Turkish, Chinese,
    Japanese and Korean. A caveat before an answer ("I can't give legal advice, but …"), a quoted refusal, and a letter
    that says no on somebody's behalf are not refusals.
    """
    lead = _unquoted(_fold(text[: 4 * LEAD_CHARS]))
    if _DELIVERY.match(lead) or len(_SPOKEN.findall(lead)) >= 2:
        return False
    for sentence in _SENTENCE.finditer(lead):
        if sentence.start() >= LEAD_CHARS or _hands_over_content(text, lead[: sentence.start()]):
            return False
        said = _IDIOM.sub(" ", sentence.group())
        declined = first(DECLINES, said)
        if declined and not (_LIMITED.search(said) or _concedes(said, declined)):
            return not _answers_anyway(text, said[declined.end() :] + lead[sentence.end() :])
        limit = declined or first(DISCLAIMS, said) or (_RELUCTANT.search(said) if len(text) <= SHORT_CHARS else None)
        if limit:
            return not _says_more(text, _beside(said, limit) + lead[sentence.end() :])
    return False


def _fold(text: str) -> str:
    """Lower case with plain apostrophes and alefs, without emphasis, vowel marks and repeated blanks."""
    if text.isascii():
        composed = _DROPPED.sub("", text.lower())
    else:
        folded = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
        composed = unicodedata.normalize("NFC", _DROPPED.sub("", folded)).translate(_ALEF)
    return re.sub(r"[^\S\n]+", " ", composed).strip()


def _unquoted(folded: str) -> str:
    """The text without its quotations, unless little else is there: then the quotation is the response."""
    rest = _QUOTED.sub(" ", folded)
    return rest.strip() if characters(rest) >= 10 else folded.strip('"“”«»„「」 ')


def _hands_over_content(text: str, before: str) -> bool:
    return "```" in before or len(re.findall(r"^(?:[-•]|\d+[.)]) ", before, re.MULTILINE)) >= 2


def _answers_anyway(text: str, after: str) -> bool:
    """Whether a flat refusal is followed by code or by "but here is …" and something of substance."""
    handed = _HANDOVER.search(after)
    return "```" in text or bool(handed and len(after) - handed.end() >= 100)


def _concedes(said: str, limit: re.Match[str]) -> bool:
    """Whether the limit is the lesser half of its sentence: "While I can't see it, …", not "While I see why, I can't"."""
    return bool(_CONCEDES.match(said)) and "," not in said[: limit.start()]


def _beside(said: str, limit: re.Match[str]) -> str:
    """What a sentence says beside admitting a limit: "While I can't see it, **…**", "I can't see it, but **…**"."""
    rest = said[limit.end() :]
    turn = re.search("," if _concedes(said, limit) else _BUT, rest)
    return rest[turn.end() :] if turn else ""


def _says_more(text: str, after: str) -> bool:
    """Whether more than referrals, offers and further limits follow: about a sentence of substance."""
    clauses = re.split(r"[.!?。！？؟\n]|\b(?:but|however)\b", after)
    told = [c for c in clauses if not (_ELSEWHERE.search(c) or first(DISCLAIMS, c) or first(DECLINES, c))]
    return "```" in text or sum(map(len, told)) >= 80
