"""Tell whether a text was cut before its end."""

import re

from curate.maths.detectors.text import FENCE, unmarked, without_code, words

_CUT = frozenset({"length", "max_tokens", "max_length", "model_length", "content_filter", "safety", "recitation"})
_WHOLE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call"})
_END = ".!?…。！？｡؟۔।॥։።។။⸮‼⁉"
_CLOSERS = "\"'’”»)]}›」』）】》〉*_~`"
_OPENERS = ",;:([{<«“„‘=\\&、，；：（「『【《،؛—–"
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*•+◦‣]|\(?\d{1,3}(?:\.\d{1,3})*[.)]|\(?[a-zA-Z]{1,4}[.)])[ \t]+(.*)")
_BARE_MARKER = re.compile(r"(?:[-*•+]|\d{1,3}[.)]|#{1,6}|>|\*\*)")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|dr|mr|mrs|ms|prof|vs|cf|z\.b|bzw|p\.ej|np|т\.е|т\.к)\.$", re.IGNORECASE)
_SIGN_OFF = re.compile(
    r"(?:thanks|thank you|cheers|good luck|enjoy|best|best wishes|regards|love|sincerely|bon appétit|viel erfolg|xoxo"
    r"|peace|take care|(?:\w+ )?(?:regards|wishes)|yours \w+|the end|fin|end|amen|q\.?e\.?d)"
)
# no sentence ends with these, so a text that does was cut even where nobody wrote full stops
_MID_SENTENCE = """
    a an the and or but of to in on at by for from with into onto upon as than that which who whose because
    although though while if unless when where whereas is are was were be been being has have had will would
    can could should may might must not very such its their his her your our my this these those every each
    between among through during about also however therefore thus including der die das ein eine einen einem
    eines und oder aber von zu im am mit für auf aus bei nach durch dass weil wenn ist sind war wird werden
    kann sich nicht als wie den dem des le la les un une du de et ou mais à au aux dans sur avec pour par que
    qui est sont ne en ce cette ces el los las una unos y o pero del al con para por es son se su sus lo como
    il gli uno e ma di da nel nella sul per tra che è sono della delle dei os um uma mas do dos no na nos nas
    com é são het een maar van op met voor door dat zijn wordt kan niet om i oraz lub ale w z od dla przez że
    który która jest są się и или но в на с к от для по из что который которая это не при о ve veya ama ile
    için bir bu ki gibi olarak و أو في من إلى على عن مع أن التي الذي هو هي هذا هذه
"""
_DANGLING = frozenset(_MID_SENTENCE.split())
_CJK_DANGLING = "的和在是与及把被对从为于或将はがをにのとでもへや"


def truncation(text: str, finish_reason: str | None = None) -> bool:
    """Whether a text was cut before its end.

    finish_reason: what the server said, in any of the usual vocabularies; it decides where it is known, and the text is
    read where it is None or unheard of. Empty text was not cut.
    """
    reason = (finish_reason or "").lower()
    if reason in _CUT or reason in _WHOLE:
        return reason in _CUT
    body = text.strip()
    return bool(body) and (_left_open(body) or _ends_midway(body))


def _left_open(body: str) -> bool:
    """Whether a fence, formula, document, table row or emphasis is opened and never closed."""
    if len(FENCE.findall(body)) % 2:
        return True
    prose = without_code(body)
    last = prose.rsplit("\n", 1)[-1]
    return (
        prose.count("$$") % 2 == 1
        or ("\\[" in prose and len(re.findall(r"(?<!\\)\\\[", prose)) > len(re.findall(r"(?<!\\)\\\]", prose)))
        or ("\\(" in prose and len(re.findall(r"(?<!\\)\\\(", prose)) > len(re.findall(r"(?<!\\)\\\)", prose)))
        or prose.count("\\begin{") > prose.count("\\end{")
        or prose.count("<think>") > prose.count("</think>")
        or ("<html" in prose and "</html>" not in prose)
        or _open_brackets(body)
        or _open_row(body)
        or ("**" in last and len(re.findall(r"(?:^|(?<=[\s(]))\*\*(?=\S)|(?<=[^\s*])\*\*", last)) % 2 == 1)
    )


def _open_brackets(body: str) -> bool:
    """Whether a text that is one JSON value ends before its last bracket closes."""
    if not re.match(r"\{\s*[\"}]|\[\s*[\[\{\"\d]", body):
        return False
    bare = re.sub(r"\"(?:[^\"\\\n]|\\.)*\"", "", body)
    return sum(map(bare.count, "{[")) > sum(map(bare.count, "}]"))


def _open_row(body: str) -> bool:
    """Whether the last line belongs to a table whose other rows are longer or closed."""
    lines = body.rsplit("\n", 3)[1:]
    if len(lines) < 2 or not lines[-1].startswith("|") or not lines[-2].startswith("|"):
        return False
    return lines[-1].count("|") < lines[-2].count("|")


def _ends_midway(body: str) -> bool:
    """Whether the last line is unfinished, judged by how it ends and by how the text ends its other lines."""
    if FENCE.match(body.rsplit("\n", 1)[-1]):
        return False
    lines = [line for line in body.split("\n") if line.strip()]
    last = unmarked(lines[-1]).strip()
    if not last:
        return False
    if _BARE_MARKER.fullmatch(last) or (re.match(r"#{1,6} ", last) and len(lines) > 1):
        return True
    if last[-1] in _OPENERS and not re.search(r"[\w)}\]]\s*;$", last):  # a semicolon ends a line of code
        return not (last[-1] in ",，、" and _signs_off(last, lines))
    if last[-1] in "-+*/<" and re.search(r"(?:^|\s)\S$", last):
        return True
    if _ABBREVIATION.search(last):
        return True
    return last[-1].isalnum() and _unfinished(last, lines)


def _signs_off(last: str, lines: list[str]) -> bool:
    """Whether a last line with a comma closes a letter ("Warm regards,")."""
    return len(lines) > 1 and last[0].isupper() and words(last) <= 3 and lines[-2].rstrip()[-1] in _END + ","


def _unfinished(last: str, lines: list[str]) -> bool:
    """Whether a line that ends in a letter or digit is a broken sentence rather than a value, item, verse or name."""
    ending = last.split()[-1]
    if re.search(r"://|@|^#|^www\.", ending) or re.search(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]$", ending):
        return False
    if (words(last) > 2 or (lines[:-1] and len(ending) > 1)) and (ending.lower() in _DANGLING or ending[-1] in _CJK_DANGLING):
        return True
    if re.search(r"(?:=\s*\S+(?: \S+){0,4}|:\W*\s(?:\S+ ){0,2}\S+)$", last):  # a value: "x = 4 cm", "Answer: Paris"
        return False
    if _LIST_ITEM.fullmatch(last):
        return _breaks_list_style(lines)
    if re.search(r"^#{2,} \S+$|(?:->|→|⇒) ?\S+$|(?:^|\s)[A-J]$", last):  # a marked result, or the letter of a choice
        return False
    fragment = re.split(rf"(?<!\b\w)[{re.escape(_END)}][{re.escape(_CLOSERS)}]*(?:\s+|(?<=[。！？]))", last)[-1]
    if fragment != last:
        # "… thinks." – Albert Einstein; "… so happy. Kim + Ray"
        named = re.fullmatch(r"[A-Z]\w*(?:,? (?:(?:and|&|\+) )?[A-Z]\w*)?", fragment) and fragment.lower() not in _DANGLING
        return not (_SIGN_OFF.fullmatch(fragment.lower()) or re.match(r"[-–—~]", fragment) or named)
    return _breaks_prose(last, lines)


def _breaks_list_style(lines: list[str]) -> bool:
    """Whether the other items of the list end in full stops, which the last one lacks."""
    items = [line.rstrip() for line in lines[:-1] if _LIST_ITEM.fullmatch(line)]
    return bool(items) and 2 * sum(_stops(item) for item in items) > len(items)


def _breaks_prose(last: str, lines: list[str]) -> bool:
    """Whether a last line without any full stop is out of keeping with a text that uses them."""
    others = lines[:-1]
    if not others:
        return words(last) > (15 if re.search(r"[,;，、]", last) else 25)
    if words(last) <= 4:
        return False
    return 2 * sum(_stops(line) for line in others) >= len(others)


def _stops(line: str) -> bool:
    return line.rstrip().rstrip(_CLOSERS + " ")[-1:] in _END + ":"
