"""The page about a version."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from curate.publish.diff import diff
from curate.publish.report import report
from curate.publish.show import rethreshold, show
from curate.publish.why import why
from curate.store.versions import Version
from tests.publish.versions import RECIPE, SECRET, answer, make, steps, three_prompts, with_goal

VOID = {"meta", "line"}


class Page(HTMLParser):
    """Tags, attributes and texts of a page; fails where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> list[dict]:
    rows = three_prompts()
    bad = f"{SECRET}</div></style><img src=x onerror=alert(1)><script>alert(1)</script>\x1b"
    rows[0] = answer(bad, bad, 9, model=bad, domain=bad, source=bad, license=bad)
    rows[0]["scores"].append({"rater": bad, "aspect": bad, "value": 1})
    return rows + [answer(bad, "worse", 1)]


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    text = report(make(tmp_path, hostile(), steps(), recipe=RECIPE + f"# {SECRET}</pre><script>"))
    page = Page(text)
    assert page.tags.isdisjoint({"script", "img", "link", "iframe", "object", "base", "form"})
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert "<script>alert(1)</script>" in page.text
    assert "مرحبا 😀" in page.text
    assert not re.search("[\u202e\x1b]", text)


def test_every_step_reason_and_pair_is_on_the_page(tmp_path: Path) -> None:
    page = Page(report(make(tmp_path, three_prompts(), with_goal())))
    for word in ("exact_duplicate", "single_candidate", "small_margin", "→ 4 pairs", "good", "fair", "bad", "closer", "alone"):
        assert word in page.text
    assert page.text.count('goal {"score":') == 6
    assert "All 6 pairs" in page.text


def test_at_most_twenty_pairs_are_shown_and_the_seed_picks_them(tmp_path: Path) -> None:
    rows = [answer(f"question {i}?", text, score) for i in range(40) for text, score in (("good", 9), ("bad", 1))]
    version = make(tmp_path, rows, steps())
    first, again, other = (report(version, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.count("<article>") == 20


def test_huge_texts_are_shortened(tmp_path: Path) -> None:
    text = report(make(tmp_path, [answer("A?", "x" * 1_000_000, 9), answer("A?", "y", 1)], steps()))
    assert "… (+996,000 characters)" in text
    assert len(text) < 100_000


@pytest.mark.parametrize("grain", ["prompts", "responses", "pairs"])
def test_an_empty_version_of_any_grain_has_a_page(tmp_path: Path, grain: str) -> None:
    page = Page(report(make(tmp_path, [], [], grain=grain)))  # type: ignore[arg-type]
    assert "No row was kept." in page.text
    assert "nan" not in page.text.lower().replace("finance", "")


def test_versions_of_responses_and_prompts_have_a_page(tmp_path: Path) -> None:
    assert "alone" in Page(report(make(tmp_path, three_prompts(), steps()[:1]))).text
    rows = [{"prompt_id": "p", "prompt": [{"role": "user", "content": "just a prompt"}]}]
    assert "just a prompt" in Page(report(make(tmp_path, rows, [], grain="prompts"))).text


def test_bars_are_as_long_as_their_rows(tmp_path: Path) -> None:
    text = report(make(tmp_path, three_prompts(), steps()))
    # of 4 pairs, margin keeps 3 and drops 1
    assert '<i class="kept" style="width:75.00%"></i><i class="lost" style="width:25.00%"></i>' in text


# -- the same in a terminal


def printed(call, *args) -> str:
    from rich.console import Console

    out = io.StringIO()
    call(Console(file=out, width=130, markup=False, highlight=False, emoji=False), *args)
    return out.getvalue()


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return make(tmp_path, three_prompts(), steps())


def test_pairs_are_printed_side_by_side(version: Version) -> None:
    from curate.cli.views import print_pairs

    text = printed(print_pairs, show(version, n=1))
    assert re.search(r"good +fair", text)
    assert "1 row of 3 in demo@v1 pairs" in text


def test_no_text_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    from curate.cli.views import print_diff, print_funnel, print_pairs, print_why

    version = make(tmp_path, hostile(), steps())
    text = "".join(
        [
            printed(print_pairs, show(version, n=9)),
            printed(print_pairs, show(version, n=9, columns=["domain", "prompt"])),
            printed(print_pairs, show(version, table="dropped/responses", n=9)),
            printed(print_why, why(version, 0)),
            printed(print_diff, diff(version, make(tmp_path, three_prompts(), steps()))),
            printed(print_funnel, version),
        ]
    )
    assert not re.search("[\u202e\x1b]", text)
    assert "<script>" in text


def test_the_story_and_the_difference_are_printed(tmp_path: Path, version: Version) -> None:
    from curate.cli.views import print_diff, print_rethreshold, print_why

    other = make(tmp_path, three_prompts(), steps(0.5), recipe=RECIPE.replace("min: 2", "min: 0.5"))
    text = printed(print_diff, diff(version, other))
    assert "steps.margin.min: 2.0 -> 0.5 (line 8)" in text
    assert re.search(r"added +1", text)
    assert "close / closer" in text
    assert "small_margin: 1, kept if >= 2" in printed(print_why, why(version, 3))
    assert "would bring back 1" in printed(print_rethreshold, rethreshold(version, {"margin": 0.5}))


def test_versions_are_listed_with_their_tags(version: Version) -> None:
    from curate.cli.views import print_versions

    assert re.search(r"demo@v1 +3 +pairs +3 .*good", printed(print_versions, [version], {"demo": {"good": 1}}))
    assert "no versions yet" in printed(print_versions, [], {})
