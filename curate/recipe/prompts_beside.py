"""Find the prompts of answers in another file, by a key that both have."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from curate.recipe.columns import Columns, Row
from curate.recipe.layout import GOLD, Layout, about_prompt, check_of, prompt_of
from curate.recipe.two_sides import RESPONSE


def prompts_beside(rows: Sequence[Row], others: Iterable[tuple[str, Sequence[Row]]]) -> tuple[str, str, Columns] | None:
    """The file among others that holds the prompts of some answers, the key both have, and its columns."""
    keys = Columns(rows).keys()
    for file, theirs in others:
        columns = Columns(theirs)
        if prompt_of(columns) is None or columns.named([name for name in RESPONSE if name not in GOLD]) is not None:
            continue
        for key in keys:
            if key in columns.kinds and len(columns.values(key)) == len(theirs):
                return file, key, columns
    return None


def joined(layout: Layout, file: str, key: str, columns: Columns) -> Layout:
    """The layout of answers with their prompts from another file."""
    mapped = dict(layout.source["columns"])
    about = about_prompt(columns)
    about.pop("model", None)
    prompt = str(prompt_of(columns))
    mapped |= {"prompt": prompt} | {ours: theirs for ours, theirs in about.items() if theirs != prompt and ours not in mapped}
    gold = columns.named(GOLD, ("text", "number"))
    if gold is not None and "reference" not in mapped and gold != mapped["response"]:
        mapped["reference"] = gold
    order = ["prompt", "response", *mapped]
    source = {"join": {"path": file, "on": key}} | layout.source | {"columns": {name: mapped[name] for name in order}}
    return replace(layout, source=source, lacks_prompt=False, check=layout.check or check_of(columns, mapped))


def without_prompt(layout: Layout, keys: Sequence[str]) -> str:
    """What to say of answers whose prompts were not found."""
    response, key = layout.source["columns"]["response"], keys[0]
    return (
        f"its rows hold answers ({response}) but not their prompts, and no file beside it has both {' or '.join(keys)} and a "
        f"prompt. Write a recipe with source.columns: {{prompt: FIELD, response: {response}}} and "
        f"source.join: {{path: FILE, on: {key}}}, FILE having the prompts"
    )
