"""Find pieces of chat and prompt templates left in a text."""

import re

from curate.maths.detectors.text import without_code

_CHAT_TOKEN = re.compile(
    r"<[|｜][\w ▁/-]{1,40}[|｜]>|\[/?INST\](?!\()|<</?SYS>>|</?(?:start|end)_of_turn>|<(?:bos|eos|pad|unk|sep|cls|mask|eot|EOT)>"
    r"|<extra_id_\d+>|\[(?:PAD|CLS|SEP|MASK|UNK|BOS|EOS)\]|</?\|?(?:im_start|im_end|endoftext|eot_id)\|?>"
    r"|<(?:system|user|assistant|human|bot)>|</(?:system|user|assistant|human|bot|answer|response)>"
    r"|</?(?:think|thinking|thought|thoughts|reasoning|scratchpad|reflection|inner_monologue)>"
    r"|\A\s*<s>|</s>\s*\Z|\[(?:/?SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]|<0x[0-9A-F]{2}>"
)
_PLACEHOLDER = re.compile(
    r"\{\{[^{}\n]{1,60}\}\}|\{%[^%\n]{1,80}%\}|\$\{[A-Za-z_]\w{0,40}\}"
    r"|(?<![\w\\{$^_])\{(?:[a-z]+_)*(?:input|prompt|question|instruction|response|answer|context|user|name|query|text|output|message|system|history|topic|title|document|content|date)(?:_[a-z]+)*\d*\}"
    r"|[\[<](?:insert|(?:add|enter|fill in|type|put) (?:your|the|an?))\b[^\[\]<>\n]{2,60}[\]>]",
)
_SECTION = re.compile(r"(?:^|(?<=\s))#{2,4} ?(?:Instruction|Response|Human|Assistant):", re.MULTILINE)
_PREAMBLE = re.compile(
    r"Below is an instruction that describes a task|A chat between a curious (?:user|human) and an artificial intelligence"
    r"|You are a helpful(?:, respectful and honest)? (?:AI )?assistant|You are (?:ChatGPT|Claude|Qwen|an AI programming assistant)\b"
)
"""System prompts that published data sets were written with: Alpaca, Vicuna, Llama 2 and vendors' defaults."""
_F_STRING = re.compile(r"\b[fF]\"[^\"\n]*\"|\b[fF]'[^'\n]*'")
_F_OPENINGS = ("f'", 'f"', "F'", 'F"')
_ROLES = ("Human", "User", "USER", "Assistant", "ASSISTANT", "HUMAN", "SYSTEM", "System", "AI", "GPT", "ChatGPT", "Bot")
_ROLE = re.compile(rf"^[ \t]*(?:\*\*)?({'|'.join(_ROLES)}):", re.MULTILINE)
_LABELS = tuple(f"{role}:" for role in _ROLES)
_SPEAKER = re.compile(
    r"^[ \t]*(?!USER|ASSISTANT|HUMAN|SYSTEM|AI\b|GPT\b|NOTE|ANSWER|QUESTION|STEP)[A-Z][A-Z .']{2,20}:", re.MULTILINE
)

_LOOKED_FOR = (
    (_CHAT_TOKEN, ("<", "[")),
    (_PLACEHOLDER, ("{", "[", "<")),
    (_SECTION, ("##",)),
    (_PREAMBLE, ("Below is an instruction", "A chat between", "You are ")),
)
"""Patterns, and of what stands in all they match: a quick look that spares most texts the long one."""


def template_leftover(text: str) -> str | None:
    """The first piece of chat or prompt template left in a text, or None.

    Special tokens, `### Response:` headings, unfilled `{prompt}` fields, and role labels where the model went on to
    write the user's next turn. Code is left out: templates may be its subject.
    """
    prose = without_code(text)
    prose = _F_STRING.sub(" ", prose) if any(opening in prose for opening in _F_OPENINGS) else prose
    found = [m for p, gate in _LOOKED_FOR if any(piece in prose for piece in gate) and (m := p.search(prose))]
    role = _runaway_role(prose)
    found += [role] if role else []
    return min(found, key=lambda m: m.start()).group().strip() if found else None


def _runaway_role(prose: str) -> re.Match[str] | None:
    """The first role label, if it opens a transcript with an assistant or follows prose that announced no dialogue.

    With other speakers around ("NARRATOR:") it is a script.
    """
    roles = list(_ROLE.finditer(prose)) if any(label in prose for label in _LABELS) else []
    if not roles or _SPEAKER.search(prose):
        return None
    before = prose[: roles[0].start()].rstrip()
    if not before:
        return roles[0] if any(role[1].lower() not in ("human", "user", "system") for role in roles) else None
    return None if before[-1] in ":：-*#" else roles[0]
