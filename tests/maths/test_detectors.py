"""Detectors on texts short enough to judge by eye."""

import pytest

from curate.maths.detectors import (
    REPETITIVE,
    characters,
    language,
    refusal,
    repetition,
    template_leftover,
    truncation,
    words,
)

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I cannot assist with this request.",
    "As an AI language model, I don't have personal opinions.",
    "I understand that you are upset. However, I won't write threats against your neighbour.",
    "I must decline. This goes against my guidelines.",
    "I'm not comfortable writing that.",
    "Unfortunately, that's not something I can do.",
    "While I see why you ask, I can't explain how to pick that lock.",
    "I can't give medical advice. Please consult a doctor.",
    "I don't have access to real-time data, so I can't tell you the weather. Please check a weather website.",
    "I cannot fulfill this request.\n\nHere are some things I can do instead:\n- Explain citation rules\n- Review your outline",
    "Es tut mir leid, aber dabei kann ich dir nicht helfen.",
    "Ich kann diese Anfrage leider nicht beantworten.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Mi dispiace, ma non posso aiutarti.",
    "Desculpe, mas não posso ajudar com isso.",
    "Het spijt me, maar daar kan ik je niet mee helpen.",
    "Przykro mi, ale nie mogę w tym pomóc.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Извините, но я не могу помочь с этим.",
    "عذراً، لا أستطيع مساعدتك في ذلك.",
    "抱歉，我无法提供这方面的帮助。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
]

NO_REFUSALS = [
    "",
    "😂😂😂",
    "I can't recommend this book enough!",
    "I'm sorry to hear about your dog. Here are some ways to cope: talk to friends, and keep her collar.",
    "I'm sorry for the confusion. The capital of Australia is Canberra.",
    "You can't divide by zero, because no number times zero gives one.",
    "Say it kindly: \"I'm sorry, but I can't help with that.\" Then change the subject.",
    "Dear Ms Ito,\n\nI am unable to provide the report this week.\n\nRegards,\nAnn",
    "While I can't see your screen, the steps are the same everywhere: open Settings, choose Display, switch the sensor off.",
    "I can't give legal advice, but in most countries a tenant may refuse a visit without notice, and a text is no notice.",
    "I cannot run code here, but this should do it:\n```python\nprint(sum(range(10)))\n```",
    "MARTA: I can't help you with that.\nJON: Then who can?",
    "Ich kann das Buch nur empfehlen.",
    "我不能再喝咖啡了，我们喝茶吧。",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_told(text):
    assert refusal(text)


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_an_answer_is_no_refusal(text):
    assert not refusal(text)


def test_a_caveat_late_in_an_answer_is_no_refusal():
    answer = "Paris lies on the Seine. It has been the capital for centuries. " * 12
    assert not refusal(answer + "I can't help with visas.")


CUT = [
    "The main reason is that the",
    "First sentence. The second one goes on and",
    "Rome was founded long ago. Its walls",
    "The steps are:",
    "We need eggs, flour,",
    "```python\ndef f(x):\n    return x",
    '{"name": "Ann", "tags": ["a", "b"',
    "1. Mix the flour.\n2. Add the eggs.\n3. Bake until the",
    "1. Mix the flour.\n2.",
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3",
    r"So we get \[ x = \frac{1}{2}",
    "<think>Let me see.",
    "这是第一句话。第二句话还没有",
    "هذه جملة كاملة. وهذه جملة في",
    "Some tools help, e.g.",
]

WHOLE = [
    "",
    "Paris",
    "42",
    "The capital of France is Paris.",
    "The capital of France is Paris",
    "That worked! 🎉",
    "She said: “We are done.”",
    "Eggs:\n- two large\n- one small",
    "```python\nprint(1)\n```",
    '{"name": "Ann"}',
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "The result is below.\n\nx = 12 cm",
    "Dear Ann,\n\nThank you for the cake.\n\nBest regards,\nJonas Weber",
    "It is done. Good luck",
    "The night is long\nthe road is short\nmy lamp is low\nI walk along",
    "这是一个完整的句子。",
    "هل انتهيت؟",
    "Read more: https://example.org/page",
    "“Time is a river.” – Marcus Aurelius",
]


@pytest.mark.parametrize("text", CUT)
def test_a_cut_text_is_told(text):
    assert truncation(text)


@pytest.mark.parametrize("text", WHOLE)
def test_a_whole_text_is_left_alone(text):
    assert not truncation(text)


def test_a_known_finish_reason_decides():
    assert truncation("All done.", "length")
    assert truncation("All done.", "MAX_TOKENS")
    assert not truncation("It ends with the", "stop")
    assert truncation("It ends with the", "who knows")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The library closes at six on weekdays.", "en"),
        ("Die Bücherei schließt werktags um sechs.", "de"),
        ("La bibliothèque ferme à six heures en semaine.", "fr"),
        ("La biblioteca cierra a las seis entre semana.", "es"),
        ("La biblioteca chiude alle sei nei giorni feriali.", "it"),
        ("A biblioteca fecha às seis horas durante a semana.", "pt"),
        ("De bibliotheek sluit doordeweeks om zes uur.", "nl"),
        ("W dni powszednie biblioteka jest zamykana o szóstej.", "pl"),
        ("Kütüphane hafta içi saat altıda kapanıyor.", "tr"),
        ("Библиотека закрывается в шесть часов вечера.", "ru"),
        ("Бібліотека зачиняється о шостій вечора.", "uk"),
        ("تغلق المكتبة أبوابها في السادسة مساء.", "ar"),
        ("图书馆六点关门。", "zh"),
        ("図書館は六時に閉まります。", "ja"),
        ("도서관은 여섯 시에 닫습니다.", "ko"),
        ("पुस्तकालय शाम छह बजे बंद हो जाता है।", "hi"),
        ("", None),
        ("42", None),
        ("👍👍👍", None),
        ("https://example.org/der/die/das", None),
        ("```python\nfor word in words:\n    print(word)\n```", None),
    ],
)
def test_the_language_of_a_text(text, code):
    assert language(text)[0] == code


def test_code_and_links_do_not_sway_the_language():
    text = (
        "So zählt man die Wörter einer Datei:\n```python\nprint(len(open('file').read().split()))\n```\nMehr: https://example.org"
    )
    assert language(text)[0] == "de"


def test_half_and_half_is_no_language():
    english = "The library closes at six on weekdays, and nobody may stay inside after that hour. "
    spanish = "La biblioteca cierra a las seis entre semana, y nadie puede quedarse dentro después. "
    assert language(english + spanish)[0] is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello.<|im_end|>", "<|im_end|>"),
        ("[INST] Say hello [/INST] Hello.", "[INST]"),
        ("### Response:\nHello.", "### Response:"),
        ("Dear {{name}}, hello.", "{{name}}"),
        ("Here is the text: {input}", "{input}"),
        ("Hello.</s>", "</s>"),
        ("Greedy.</think>The answer is 4.", "</think>"),
        ("It is four.\n\nHuman: And five plus five?\n\nAssistant: Ten.", "Human:"),
        ("Assistant: Hello.", "Assistant:"),
        ("<｜Assistant｜>Hello.", "<｜Assistant｜>"),
        ("", None),
        ("The price was <s>5</s> 4 euros.", None),
        ("In ChatML a turn ends with `<|im_end|>`.", None),
        ("```jinja\nDear {{ name }},\n```", None),
        ("The set {1, 2} has two members, and f(x) = \\frac{a}{b}.", None),
        ("Here is a short dialogue:\n\nUser: Hi.\nAssistant: Hello.", None),
        ("NARRATOR: Night.\nHuman: Who is there?\nROBOT: Only me.", None),
        ("Best wishes,\n[Your Name]", None),
    ],
)
def test_what_is_left_of_a_template(text, found):
    assert template_leftover(text) == found


def test_a_loop_is_nearly_all_repetition():
    assert repetition("the cat sat on the mat and then " * 20) > 0.9
    assert repetition("no " * 50) > 0.8
    assert repetition("a" * 500) > 0.9
    assert repetition("😂" * 100) > 0.8
    assert repetition("我们去公园散步然后回家吃饭。" * 20) > 0.9


def test_a_text_written_twice_is_half_repetition():
    once = "Rome was not built in a day, but it burned in six, and nobody is sure who lit the first fire. "
    assert repetition(once) == 0
    assert repetition(once * 2) == pytest.approx(0.5)


def test_a_counter_does_not_make_a_line_new():
    assert repetition("".join(f"Step {i}: Check the cable. " for i in range(1, 20))) > REPETITIVE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Thank you. Thank you. Thank you.",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\n| 7 | 8 |",
        "".join(f"7 x {i} = {7 * i}\n" for i in range(1, 13)),
        "1. Apples\n2. Pears\n3. Plums\n4. Figs\n5. Dates\n6. Limes\n7. Nuts\n8. Grapes",
    ],
)
def test_order_is_no_repetition(text):
    assert repetition(text) < REPETITIVE


@pytest.mark.parametrize(
    ("text", "seen", "counted"),
    [
        ("", 0, 0),
        ("two words", 8, 2),
        ("don't re-read", 12, 2),
        ("我爱你", 3, 3),
        ("iPhone手机", 8, 3),
        ("e\u0301té", 3, 1),
        ("مرحبا بك", 7, 2),
        ("مَرْحَبًا", 5, 1),
        ("किताब है", 6, 2),
        ("می\u200cروم", 5, 1),
        ("👍 ok", 3, 1),
        ("\u200f\u202b", 0, 0),
    ],
)
def test_length_in_characters_and_words(text, seen, counted):
    assert (characters(text), words(text)) == (seen, counted)


PIECES = ["a", " ", "\n", '"', "`", "{", "$ ", "<|", "\\[", "|a", "1.\n", "{{a", ".", "@a.", "```\n", "http://", "[your ", "1 "]
PIECES += ["hello world this is fine. ", "i can't ", "Human:\n", "这是一个测试句子。", "😂", "مرحبا ", "किताब "]


@pytest.mark.parametrize("piece", PIECES)
def test_a_long_text_takes_no_longer_than_its_length(piece):
    text = piece * (250_000 // len(piece))  # what grows with the square of that would not come back
    for detector in (refusal, truncation, language, template_leftover, repetition, characters, words):
        detector(text)
