"""Tell whether a text refuses, stops short, loops, leaks a template, and which language it is in.

Every detector reads one text, answers without a model call or a download, and takes time linear in its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

REPETITIVE = 0.4
"""`repetition` at or above this is degenerate: songs, lists and code stay below it, loops and doubled answers do not."""

LOOP_WORDS = 8
"""Words in a row that must come back before they count as a repeat; shorter ones recur in any fluent text."""

LEAD_CHARS = 600
"""A refusal comes early: one first met after this many characters is a caveat to an answer already given."""

LANGUAGE_CONFIDENCE = 0.5
"""Least share of the text, weighted by the model's own probability, that must be in one language to name it."""

_CODES = """
    af sq ar hy az eu be bn bs bg ca zh hr cs da nl en et fi fr gl ka de el gu he hi hu is id ga it ja kn kk
    km ko lv lt mk ms ml mr mn ne no fa pl pt pa ro ru sr si sk sl es sw sv tl ta te th tr uk ur uz vi cy
"""
LANGUAGES = tuple(_CODES.split())
"""What `language` may answer: languages that models write and are asked in. Rare ones cost short texts their certainty."""

_SPACELESS = r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])[^\W_])(?:(?![{_SPACELESS}])\w|['’\-](?=[^\W_]))*")
_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)


def characters(text: str) -> int:
    """Characters a reader sees: code points of the composed form without white space, marks and joiners."""
    composed = unicodedata.normalize("NFC", text)
    return sum(not (c.isspace() or unicodedata.category(c) in ("Mn", "Me", "Cf")) for c in composed)


def words(text: str) -> int:
    """Words of a text; each Han or kana character counts as one, since Chinese and Japanese write no spaces.

    Thai, Lao, Khmer and Burmese have no spaces either: there a run of letters counts once, so compare `characters`.
    """
    return sum(1 for _ in _WORD.finditer(_unmarked(text)))


def _unmarked(text: str) -> str:
    """The text without vowel signs, accents set apart and joiners, none of which ends a word."""
    return text if text.isascii() else "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Mc", "Me", "Cf"))


# ---- refusal -------------------------------------------------------------------------------------------------------

_EN_HELP = (
    r"(?:help|assist|aid|provide|fulfil|fulfill|comply|create|generate|produce|write|compose|draft|answer|respond|reply"
    r"|engage|participate|partake|support|share|give|offer|discuss|complete|accommodate|continue|proceed|facilitate"
    r"|promote|encourage|endorse|condone|advise|suggest|instruct|guide|teach|walk|reveal|disclose|supply|explain|tell"
    r"|show|describe|role-?play|pretend|impersonate|satisfy|honou?r|grant|list|translate|perform|carry|execute"
    r"|fabricate|speculate|comment|weigh|entertain|contribute|design|develop|build|act|repeat|output|express|joke"
    r"|recommend|summari[sz]e|simulate|interpret|identify|evaluate|assess|interfere|reproduce|do (?:that|this|so|it)|make (?:that|this|jokes|fun|any|a|up)|go along"
    r"|take (?:part|sides|a (?:position|side|stance)|on)|be (?:part|able|of))"
)
_EN_NOT = (
    r"(?:cannot|can not|can't|cant|won't|will not|(?:am|'m) (?:not able|unable|not allowed"
    r"|not permitted|not authori[sz]ed|not in a position|not willing|not going|not supposed|not qualified"
    r"|not (?:programmed|designed|equipped|trained|built|prepared)) to|(?:won't|will not) be able to"
    r"|refuse to|decline to|must not|should not|shouldn't|'d rather not|would rather not|(?:'d |would )?prefer not to)"
)
_EN_GAP = r"(?:(?!but\b|and\b|so\b)[a-z'-]+,? ){0,4}?"
_EN_LIMITED = (
    r"(?:medical|legal|financial|tax|investment|professional|personal(?:i[sz]ed)?|specific|exact|definitive|complete"
    r"|full|entire|precise|real-?time|live|up-to-date|current|latest|detailed|comprehensive|in-depth|verbatim)"
)
_EN_SENSE = (
    r"(?:access|browse|view|see|open|play|predict|search|hear|listen|watch|remember|recall|experience|diagnose|prescribe"
    r"|verify|send|book|order|buy|purchase|check|look up|form|physically|interact|visit|draw|display|retrieve|confirm)"
)
_EN_LACK = (
    r"(?:do not|don't|do not actually|don't actually) (?:actually |currently )?(?:have|possess|experience|hold)(?: any)?"
    r" (?:personal|subjective|feelings|emotions|opinions|experiences?|preferences|beliefs|consciousness|access|physical"
    r"|real-?time|up-to-date|current|live|thoughts|memory|an? (?:physical|body)|the (?:ability|capability|capacity|means))"
)
_POLICY = r"(?:polic(?:y|ies)|guidelines?|terms|rules|principles|standards|programming|values|ethics|code of|safety)"

_DECLINES = {
    "en": (
        rf"\bi(?:'m afraid i| also| really| simply| just| truly| unfortunately| therefore| must say i)*,? ?{_EN_NOT} {_EN_GAP}{_EN_HELP}\b",
        r"\b(?:i(?:'m| am)|feel) (?:not |un)comfortable (?:with )?\w+ing\b",
        r"\bi (?:do not|don't) feel comfortable (?:with )?\w+ing\b",
        rf"\bi (?:do not|don't) (?:want to )?{_EN_GAP}(?:provide|create|generate|produce|engage in|assist|participate in|condone|take part|help with|identify)\b",
        r"\b(?:have to|need to|going to|i'll|i will|i must|i'd rather) (?:have to )?(?:pass\b|skip (?:this|that)|leave it there|stop (?:here|there|right there))",
        r"^(?:(?:no(?:pe)?|nah|sorry|hmm)[,.]? )*(?:can't|cannot|won't|not going to|not gonna) (?:do|help with) (?:that|this|it)\b",
        r"\b(?:not possible|impossible|no (?:\w+ )?way|not (?:a )?(?:\w+ )?way|isn't (?:a )?(?:\w+ )?way) for me to\b",
        r"\bwon't (?:get|find|hear|be getting) [\w' -]{0,30}from me\b",
        r"\bi(?:'m| am) not (?:capable of|doing|helping|assisting|providing|writing|generating|sharing|giving you)\b",
        rf"^(?:sorry,? (?:but )?)?(?:unable|not able|cannot|can't|can not|won't) (?:to )?{_EN_GAP}(?:help|assist|fulfil|fulfill|comply|provide|do that|answer)\b",
        r"\bwe (?:cannot|can't|are unable to|are not able to|won't) (?:help|assist|fulfil|fulfill|comply|support) (?:you |with |this |that |your )",
        r"\b(?:not|isn't|never) something (?:that )?i(?:'m| am|'d| would| will|'ll| can| could| feel)?\b",
        r"\bsomething (?:that )?i (?:can't|cannot|can not|won't|will not|am unable|am not|refuse)\b",
        r"\b(?:must|have to|need to|going to have to|will have to|'ll have to|going to) (?:respectfully |politely |kindly |firmly )?(?:decline|refuse|say no)\b",
        r"\bi (?:respectfully |politely |kindly |firmly |must )*(?:decline|refuse)\b",
        r"\b(?:request|prompt|question|content|topic|query|message) (?:cannot|can't|can not|could not|won't|will not) be (?:fulfilled|completed|answered|granted|accommodated|provided|generated)",
        rf"\b(?:request|prompt|content|question|that|this|it|doing so|topic)(?: [\w'-]+){{0,8}}? (?:violat\w+|goes against|go against|is against|conflicts? with|breach\w*|contraven\w+|falls? outside|is outside)(?: [\w'-]+){{0,5}}? {_POLICY}",
        r"\b(?:outside|beyond|not within) (?:of )?(?:the (?:scope|bounds|limits) of )?(?:what i(?:'m| am| can| could| do| will)\b|my (?:capabilit|abilit|scope|guidelines|role))",
        rf"\bagainst my (?:\w+ ){{0,3}}(?:{_POLICY}|purpose|training|design|nature|core)",
        rf"\bmy (?:\w+ ){{0,3}}{_POLICY}(?: \w+){{0,4}}? (?:prevents?|prohibits?|forbids?|restricts?|bars?|stops?|(?:do|does) not (?:allow|permit)|don't (?:allow|permit)|doesn't (?:allow|permit))",
        r"\bit (?:would be|is|'s|would not be|wouldn't be|isn't) (?:not )?(?:in|un|ir)?(?:appropriate|ethical|responsible|right|wrong|okay|acceptable|illegal) (?:for|of) me to\b",
        r"\b(?:can't|cannot|can not|won't) (?:in good conscience|ethically|morally|legally)\b",
        r"\bprefer (?:not to|to not) (?:continue|discuss|answer|engage|talk)\b",
        r"\b(?:can't|cannot|unable to) (?:help|assist)(?: you)? with (?:that|this|your)\b",
    ),
    "de": (
        r"\b(?:kann|könnte|darf|werde|möchte|will|können|dürfen|werden)\b(?=.{0,60}\b(?:ich|wir)\b|(?<=ich kann)|(?<=ich darf)|(?<=ich werde)|(?<=ich möchte)|(?<=ich will)|(?<=wir können)).{0,80}\b(?:nicht|keine?[nrms]?)\b.{0,90}\b(?:\w*helfen|behilflich|unterstützen|bereitstellen|zur verfügung|beantworten|erfüllen|nachkommen|geben|erstellen|schreiben|liefern|anbieten|dienen|mitwirken|teilen|verfassen|generieren|besprechen|assistieren|eingehen|entsprechen|fortfahren|durchführen|ausführen|tun|machen|beteiligen|weitergeben|erklären)\b",
        r"\bich bin (?:leider |derzeit )?nicht (?:in der lage|befugt|berechtigt|dazu)",
        r"\b(?:muss|möchte|werde) (?:ich )?.{0,60}\b(?:ablehnen|verweigern)\b|\bich (?:lehne .{0,50}\bab\b|weigere mich|verweigere)",
        r"\b(?:verstößt|widerspricht) .{0,40}(?:richtlinien|grundsätze|programmierung|nutzungsbedingungen)|gegen meine .{0,20}(?:richtlinien|grundsätze|programmierung)",
    ),
    "fr": (
        r"\bje (?:ne |n')(?:\w+ )?(?:peux|pourrai|pourrais|puis|saurais|vais|suis|dois|souhaite|veux)\b.{0,60}?\b(?:pas|capable|mesure|autorisée?|habilitée?|vous|te|t'|répondre|fournir)\b.{0,60}?(?:aide|assist|fourni|répon|donne|satisfai|accéd|créer|génér|écri|rédig|propos|particip|partag|discut|honor|traiter|donner suite|accompagn|soutenir|produi|expliqu|faire (?:cela|ça|ceci)|continu|réalis|mesure de|capable de)",
        r"\bje (?:refuse|décline|dois (?:malheureusement |poliment |respectueusement )?(?:refuser|décliner)|me vois dans l'obligation de (?:refuser|décliner)|préfère ne pas|regrette de ne (?:pas )?pouvoir (?:vous |t')?(?:aid|assist|fourn|répon|donn|satisf))",
        r"\b(?:m'est|me serait) (?:malheureusement )?impossible|il ne m'est pas possible|je suis (?:désolée?,? mais je suis )?(?:dans l'incapacité|incapable)",
        r"\b(?:contraire|contrevient|va à l'encontre|enfreint|viole)\b.{0,40}(?:directives|politiques?|principes|règles|conditions|programmation)",
    ),
    "es": (
        r"\bno (?:te |le |les |os |lo |me )?(?:puedo|podré|podría|podemos|soy capaz|estoy (?:autorizad|en condiciones|capacitad|diseñad|programad|permitid)\w*|me es posible|es posible para mí|debo|voy a|tengo permitido|me está permitido)\b.{0,60}?(?:ayud|asist|proporcion|cumpl|respond|brind|ofrec|dar|crear|gener|escrib|redact|particip|compart|facilit|atender|satisfac|complac|contest|discut|hablar|hacer (?:eso|esto)|apoy|realiz|suministr|continu|explic|produc|colabor|acceder a)",
        r"\b(?:me niego|debo (?:rechazar|declinar|negarme)|tengo que (?:rechazar|declinar|negarme)|rechazo (?:tu|su|esta|la)|prefiero no|me es imposible|no me es posible|no me siento cómod)",
        r"\b(?:va en contra|viola|infringe|incumple|contraria?)\b.{0,40}(?:políticas?|directrices|principios|normas|términos|programación)",
    ),
    "it": (
        r"\bnon (?:ti |vi |le |mi |lo )?(?:posso|potrei|potrò|possiamo|sono (?:in grado|autorizzat\w|abilitat\w|programmat\w|progettat\w)|mi è (?:possibile|permesso|consentito)|intendo|devo|voglio|riesco)\b.{0,60}?(?:aiut|assist|forn|rispond|soddisf|dar|crea|gener|scriv|partecip|condivid|offr|complet|esaudi|discut|support|far(?:lo|e (?:questo|ciò))|continu|produ|spieg|collabor|proced|eseg|accontent)",
        r"\b(?:mi rifiuto|devo (?:purtroppo |gentilmente )?(?:rifiutar|declinar)|preferisco non|mi è impossibile|sono impossibilitat)",
        r"\b(?:contro|viola|contrari\w|violerebbe)\b.{0,40}(?:linee guida|politiche|principi|regole|termini|programmazione)",
    ),
    "pt": (
        r"\bnão (?:te |lhe |o |a |me )?(?:posso|poderei|poderia|podemos|consigo|sou capaz|estou (?:autorizad\w|apt\w|em condições|programad\w|habilitad\w|disposto)|me é (?:possível|permitido)|é possível para mim|tenho permissão|devo|vou|irei)\b.{0,60}?(?:ajud|auxili|fornec|respond|dar|cri|ger|escrev|redig|particip|compartilh|partilh|oferec|cumpr|atend|satisf|discut|apoi|fazer (?:isso|isto)|continu|produz|explic|colabor|realiz|prestar|assist|prosseguir)",
        r"\b(?:(?:me )?recuso(?:-me)?|devo (?:recusar|declinar)|tenho (?:de|que) (?:recusar|declinar)|prefiro não|é-me impossível|sou obrigad\w a recusar)\b",
        r"\b(?:contra|viola|contrári\w|violaria)\b.{0,40}(?:políticas?|diretrizes|princípios|regras|termos|programação)",
    ),
    "nl": (
        r"\b(?:kan|mag|wil|zal|kunnen|mogen|ga)\b.{0,80}\b(?:niet|geen)\b.{0,90}\b(?:helpen|meehelpen|assisteren|verstrekken|geven|bieden|voldoen|beantwoorden|schrijven|maken|genereren|meewerken|delen|ondersteunen|ingaan|uitvoeren|bijstaan|opstellen|leveren|doen|uitleggen|verdergaan|deelnemen|creëren)\b",
        r"\b(?:ben|zijn) (?:ik )?(?:helaas )?niet (?:in staat|bevoegd|gemachtigd|bereid)|\bik (?:weiger|moet .{0,30}(?:weigeren|afwijzen|afslaan))|\bmoet ik .{0,40}(?:weigeren|afwijzen)|\bik doe (?:daar|hier) niet aan mee",
        r"\b(?:in strijd met|tegen|schendt)\b.{0,30}(?:richtlijnen|beleid|principes|regels|voorwaarden)",
    ),
    "pl": (
        r"\bnie (?:mogę|jestem w stanie|będę|potrafię|wolno mi|zamierzam|możemy|będę w stanie|chcę|jestem uprawnion\w)\b.{0,60}?(?:pom[óa]|udziel|dostarcz|spełni|odpowiedz|odpowiad|zrealizow|napis|stworz|tworz|wygenerow|generow|udostępn|poda|wykona|uczestnicz|wesprz|wspier|zapewni|omawia|przygotow|kontynuow|tego zrobić|wyjaśni|doradz|doradza|angażow|podziel|dzieli)",
        r"\b(?:muszę (?:niestety |grzecznie )?odmówić|odmawiam|zmuszon\w (?:jestem )?odmówić|jestem zmuszon\w odmówić|wolę nie|nie jest możliwe,? abym)",
        r"\b(?:sprzeczn\w+ z|narusza|niezgodn\w+ z|wbrew)\b.{0,30}(?:wytyczn|zasad|regulamin|polityk)",
    ),
    "ru": (
        r"\b(?:не (?:могу|смогу|можем|буду|в состоянии|имею (?:возможности|права)|способ(?:ен|на)|вправе|стану|готов\w?)|невозможно для меня)\b.{0,60}?(?:помо[чг]|предостав|ответ|отвеч|выполн|созда|напис|поддерж|обсужд|да(?:ть|вать)|сгенерир|генерир|участв|делиться|подел|содейств|советов|расска|объясн|удовлетвор|составл|составить|сделать|это(?:го)? делать|продолж|помогать|комментир|предлагать|предложить|оказ)",
        r"\b(?:вынужден\w? (?:вам )?(?:отказать|отклонить)|отказываюсь|я должен отказаться|должна отказаться|предпочитаю не|предпоч[её]л\w? бы не)",
        r"\b(?:противоречит|нарушает|нарушает)\b.{0,30}(?:правил|принцип|политик|нормам|инструкц)",
    ),
    "ar": (
        r"(?:لا (?:استطيع|يمكنني|اقدر|نستطيع|يمكننا|يسعني|استطع|اتمكن)|لن (?:اتمكن|استطيع|اقوم|اقدم|اساعد)|ليس بامكاني|ليس بوسعي|لست قادرا?|غير قادر|لست مخولا|لا يسمح لي|لست مستعدا|يتعذر علي|لا اقدم).{0,50}?(?:ساعد|تقديم|توفير|اجاب|تلبي|انشاء|كتاب|الرد|تنفيذ|مشارك|اعطا|القيام|اقدم|اجيب|اوفر|اكتب|تزويد|تلب|اكمال|اشارك|ذلك|هذا|انشئ|دعم|مناقش|اناقش|شرح)",
        r"(?:ارفض|اعتذر عن|يجب ان ارفض|مضطر (?:الي|الى|ل)رفض|افضل عدم)",
        r"(?:يتعارض|ينتهك|يخالف|مخالف|تنتهك).{0,30}(?:سياس|ارشاد|مبادئ|قواعد|شروط)",
    ),
    "tr": (
        r"\b(?:yardımcı ol|yardım ed|destek ol|sağla|ver|yanıtla|cevapla|cevap ver|yanıt ver|oluştur|yaz|üret|sun|paylaş|getir|karşıla|sunabil|yap|katıl|anlat|açıkla|tartış|ed|öner|hazırla|destekle)(?:y?[ae])m(?:am|em|ıyorum|iyorum|ayız|eyiz|ayacağım|eyeceğim|ıyoruz|iyoruz)\b",
        r"\b(?:reddet(?:mek|meliyim)|reddediyorum|geri çevirmek zorundayım)|(?:yapmam|etmem|vermem|olmam|sağlamam|sunmam) (?:mümkün değil|doğru olmaz|uygun değil)",
        r"(?:yönergelerime|politikalar\w+|ilkelerime|kurallar\w+|politikama|ilkelere) (?:aykırı|ters)",
    ),
    "zh": (
        r"(?:我|恕|抱歉|对不起|對不起|很遗憾|很遺憾|不好意思|本人|暂时|目前)[^。！？\n]{0,24}?(?:无法|無法|不能|不可以|没办法|沒辦法|没有办法|不便|不会|不會|不应该|不應該|不适合)[^。！？\n]{0,16}?(?:帮|幫|提供|回答|回应|回應|协助|協助|满足|滿足|完成|生成|创作|創作|参与|參與|支持|讨论|討論|给|給|处理您|處理您|继续|繼續|撰写|撰寫|写|寫|执行|執行|做|告诉|告訴|透露|编写|編寫|教|为你|为您|為您|評論|评论|分享)",
        r"我(?:必须|只能|需要|不得不|要|会)?(?:拒绝|拒絕)|(?:予以|婉言|礼貌地)?(?:拒绝|拒絕)(?:您|你|这个|这一|該|该)?(?:的)?(?:请求|請求|要求)",
        r"(?:违反|違反|不符合|违背|違背)[^。！？\n]{0,16}(?:政策|准则|準則|原则|原則|规定|規定|规范|規範|道德|法律)[^。！？\n]{0,20}(?:无法|不能|無法|不会)",
        r"(?:不予|无可奉告|难以)(?:回答|提供|协助)|换个话题|換個話題",
    ),
    "ko": (
        r"(?:도와|도움을?|제공|답변|대답|응답|지원|생성|작성|알려|안내|설명|협조|응할|수행|공유|처리|말씀)[^.!?\n]{0,14}?(?:수 없|못 ?합니다|못 ?해|어렵습니다|불가능합니다|않겠습니다)",
        r"(?:요청|질문)[^.!?\n]{0,10}(?:거절|거부)|거절(?:하겠|합니다|해야)",
    ),
    "ja": (
        r"(?:お?手伝い|手助け|お答え|答える|回答|ご?提供|対応|お応え|応じる|ご?協力|支援|サポート|お教え|教える|ご?案内|お伝え|お話し|生成|作成|お書き|書く|ご?説明|お力|従う|応える|助け|ご要望|ご依頼|続ける|助言)[^。！？\n]{0,14}?(?:できません|出来ません|できない|できかね|致しかね|いたしかね|しかねます|かねます|お?断り|控え|差し控え|なれません|沿えません|ありません|わけには)",
        r"(?:申し訳|すみません|ごめんなさい|恐れ入ります|恐縮|残念ながら|あいにく)(?![^。！？\n]{0,80}(?:出席|参加|伺))[^。！？\n]{0,80}(?:できません|出来ません|できかね|致しかね|いたしかね|かねます|お断り|控えさせ)",
        r"お断り(?:し|いた|致|させ|申)|拒否(?:します|いたします|させて)|(?:ポリシー|ガイドライン|規約|倫理)[^。！？\n]{0,12}(?:に反|違反)",
    ),
}
"""Wordings by which assistants decline, by language, over folded text (see `_fold`). Each names both the refusing
("cannot") and what is refused ("help with that"), since either alone is common in answers. Sources: the stop lists of
Vicuna / ShareGPT cleaning and WizardLM-uncensored, XSTest and SORRY-Bench refusal wordings, their usual translations."""

_DISCLAIMERS = (
    rf"\bi(?:'m afraid i| also| really| simply| just| unfortunately)*,? ?(?:{_EN_NOT} {_EN_GAP}(?:{_EN_SENSE}|say)\b|{_EN_LACK}|lack (?:the |any )?(?:ability|access|capab)|have no (?:access|ability|way (?:of|to)|personal|opinion|feelings))",
    r"\bas an? (?:ai|artificial|large|language|virtual|text|machine|chat|digital|computer)[\w -]{0,30},? (?:and |so |therefore |unfortunately )*i (?:do not|don't|cannot|can't|am not|'m not|am unable|'m unable|lack|have no|am incapable)\b",
    r"\b(?:als|als ein|als eine|comme|en tant qu'|en tant que|como|come|como un|jako|como uma?)(?: \w+){0,4}? ?(?:ki|ia|ai|ki-sprachmodell|sprachmodell|taalmodel|modello|modelo|modèle|model|assistent\w?|asystent|asistente|assistente|intelligence|inteligencia|inteligência|intelligenza|sztuczna)\b.{0,60}\b(?:nicht|kein\w*|ne|n'|pas|no|non|não|niet|geen|nie)\b",
    r"\bкак (?:(?:искусственн|языков|больш|виртуальн)\w+ )*(?:ии|модель|интеллект|помощник|ассистент)\w*.{0,40}\b(?:не|нет)\b",
    r"作为(?:一个|一名|一款)?[^。，,\n]{0,12}(?:人工智能|语言模型|ai|助手)[^。\n]{0,24}(?:无法|不能|没有|不具备)",
    r"(?:ai|人工知能|言語モデル)[^。\n]{0,12}(?:として|なので|ですので|であるため|のため)[^。\n]{0,40}(?:できません|ありません|持って(?:い)?ません|持ちません)",
    r"(?:بصفتي|كنموذج|انا نموذج|كوني|باعتباري)[^.\n]{0,40}(?:لا|ليس|لست)",
    r"\b(?:bir )?(?:yapay zek[aâ]|dil model)\w*.{0,20}(?:olarak|olduğum).{0,60}(?:\w+m[ae]m\b|\w+m[ıi]yorum\b|değilim|yok)",
    rf"\bi\b[^.]{{0,40}} {_EN_LACK}",
    r"\b(?:isn't|is not|aren't|are not|not) (?:currently )?available to me\b",
    r"\bi'm afraid [^.]{0,90}\b(?:isn't|is not|aren't|are not|won't be) (?:possible|allowed|permitted|available)",
    rf"\bi {_EN_NOT} {_EN_GAP}(?:provide|give|offer|share|make) (?:you )?(?:with )?(?:an? |the |any )?{_EN_LIMITED}\b",
)
"""Wordings that admit a limit; a refusal only where nothing is answered beyond them."""

_LIMITED = re.compile(
    rf"\b(?:provide|give|offer|share|make|recommend|answer)\b (?:you )?(?:with )?(?:an? |the |any )?{_EN_LIMITED}\b"
)
_DECLINE = re.compile("|".join(f"(?:{p})" for patterns in _DECLINES.values() for p in patterns))
_DISCLAIM = re.compile("|".join(f"(?:{p})" for p in _DISCLAIMERS))
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
        declined = _DECLINE.search(said)
        if declined and not (_LIMITED.search(said) or _concedes(said, declined)):
            return not _answers_anyway(text, said[declined.end() :] + lead[sentence.end() :])
        limit = declined or _DISCLAIM.search(said) or (_RELUCTANT.search(said) if len(text) <= SHORT_CHARS else None)
        if limit:
            return not _says_more(text, _beside(said, limit) + lead[sentence.end() :])
    return False


def _fold(text: str) -> str:
    """Lower case with plain apostrophes and alefs, without emphasis, vowel marks and repeated blanks."""
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
    told = [c for c in clauses if not (_ELSEWHERE.search(c) or _DISCLAIM.search(c) or _DECLINE.search(c))]
    return "```" in text or sum(map(len, told)) >= 80


# ---- truncation ----------------------------------------------------------------------------------------------------

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
    if len(_FENCE.findall(body)) % 2:
        return True
    prose = _CODE.sub(" ", body)
    return (
        prose.count("$$") % 2 == 1
        or len(re.findall(r"(?<!\\)\\\[", prose)) > len(re.findall(r"(?<!\\)\\\]", prose))
        or len(re.findall(r"(?<!\\)\\\(", prose)) > len(re.findall(r"(?<!\\)\\\)", prose))
        or prose.count("\\begin{") > prose.count("\\end{")
        or prose.count("<think>") > prose.count("</think>")
        or ("<html" in prose and "</html>" not in prose)
        or _open_brackets(body)
        or _open_row(body)
        or len(re.findall(r"(?:^|(?<=[\s(]))\*\*(?=\S)|(?<=[^\s*])\*\*", prose.rsplit("\n", 1)[-1])) % 2 == 1
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
    if _FENCE.match(body.rsplit("\n", 1)[-1]):
        return False
    lines = [line for line in body.split("\n") if line.strip()]
    last = _unmarked(lines[-1]).strip()
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


# ---- language ------------------------------------------------------------------------------------------------------

_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\[a-zA-Z]+|https?://\S+|www\.\S+|[^\s@]{1,64}@[^\s@]+"
    r"|</?[a-zA-Z][^<>\n]{0,200}>|[@#]\w+",
    re.DOTALL,
)
_OWN_SCRIPT = (
    ("ja", re.compile(r"[\u3041-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7a3]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("th", re.compile(r"[\u0e01-\u0e5b]")),
    ("el", re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")),
    ("he", re.compile(r"[\u05d0-\u05ea]")),
    ("hy", re.compile(r"[\u0531-\u058f]")),
    ("ka", re.compile(r"[\u10a0-\u10ff]")),
    ("ta", re.compile(r"[\u0b80-\u0bff]")),
)
"""Scripts that one common language writes; Japanese stands before Chinese because it borrows Han characters."""

_LANGUAGE_SAMPLE = 4_000
_LANGUAGE_PIECE = 100
_MIN_LETTERS = 12
_MIN_OWN_SCRIPT = 2


def language(text: str) -> tuple[str | None, float]:
    """ISO 639-1 code of the language a text is written in, and how sure that is in [0, 1].

    None where there is too little prose to tell (code, formulas, links and numbers do not count) or where no language
    has most of it. The first 4,000 characters of prose are read. Model: py3langid, which ships with its package.
    """
    prose = " ".join(_NOT_PROSE.sub(" ", text[: 4 * _LANGUAGE_SAMPLE]).split())[:_LANGUAGE_SAMPLE]
    letters = sum(unicodedata.category(c)[0] in "LM" for c in prose)  # Indic vowel signs are marks
    own = _own_script(prose, letters)
    if own:
        return own
    if letters < _MIN_LETTERS or letters < 0.6 * sum(not c.isspace() for c in prose):
        return None, 0.0
    votes: dict[str, float] = defaultdict(float)
    for piece in _pieces(prose):
        code, probability = _identifier().classify(piece.lower() if piece.isupper() else piece)
        votes[code] += float(probability) * len(piece)
    (code, weight), (_, second) = [*sorted(votes.items(), key=lambda vote: -vote[1]), ("", 0.0)][:2]
    confidence = min(weight / len(prose), 1.0)
    return (code if confidence >= LANGUAGE_CONFIDENCE and weight >= 2 * second else None), confidence


def _own_script(prose: str, letters: int) -> tuple[str, float] | None:
    """The language whose own script most letters are in; Han letters go with Japanese where a tenth is kana."""
    counts = {code: len(script.findall(prose)) for code, script in _OWN_SCRIPT}
    if counts["ja"] * 10 >= counts["ja"] + counts["zh"]:
        counts["ja"] += counts.pop("zh")
    code = max(counts, key=lambda each: counts[each])
    if counts[code] < _MIN_OWN_SCRIPT or 2 * counts[code] <= letters:
        return None
    return code, min(counts[code] / letters, 1.0)


def _pieces(prose: str) -> Iterator[str]:
    """Stretches of about 100 characters, cut at blanks: a text in two languages then votes for both."""
    start = 0
    while start < len(prose):
        near = start + _LANGUAGE_PIECE
        blank = prose.find(" ", near, near + 40) if len(prose) - near > _LANGUAGE_PIECE // 2 else len(prose)
        end = near + 40 if blank < 0 else blank
        yield prose[start:end]
        start = end


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    """The model, limited to `LANGUAGES`; loading takes about half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(list(LANGUAGES))
    return model


# ---- template_leftover ---------------------------------------------------------------------------------------------

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
_ROLE = re.compile(r"^[ \t]*(?:\*\*)?(Human|User|USER|Assistant|ASSISTANT|HUMAN|SYSTEM|System|AI|GPT|ChatGPT|Bot):", re.MULTILINE)
_SPEAKER = re.compile(
    r"^[ \t]*(?!USER|ASSISTANT|HUMAN|SYSTEM|AI\b|GPT\b|NOTE|ANSWER|QUESTION|STEP)[A-Z][A-Z .']{2,20}:", re.MULTILINE
)


def template_leftover(text: str) -> str | None:
    """The first piece of chat or prompt template left in a text, or None.

    Special tokens, `### Response:` headings, unfilled `{prompt}` fields, and role labels where the model went on to
    write the user's next turn. Code is left out: templates may be its subject.
    """
    prose = _F_STRING.sub(" ", _CODE.sub(" ", text))
    found = [m for m in (p.search(prose) for p in (_CHAT_TOKEN, _PLACEHOLDER, _SECTION, _PREAMBLE)) if m]
    role = _runaway_role(prose)
    found += [role] if role else []
    return min(found, key=lambda m: m.start()).group().strip() if found else None


def _runaway_role(prose: str) -> re.Match[str] | None:
    """The first role label, if it opens a transcript with an assistant or follows prose that announced no dialogue.

    With other speakers around ("NARRATOR:") it is a script.
    """
    roles = list(_ROLE.finditer(prose))
    if not roles or _SPEAKER.search(prose):
        return None
    before = prose[: roles[0].start()].rstrip()
    if not before:
        return roles[0] if any(role[1].lower() not in ("human", "user", "system") for role in roles) else None
    return None if before[-1] in ":：-*#" else roles[0]


# ---- repetition ----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(rf"[{_SPACELESS}]|\d+(?:[.,:/\-]\d+)*|[^\W\d_]+|[!?！？]|[^\w\s\u0000-\u2bff\u3000-\u303f\uff00-\uffef]")
_LONG_WORD = 30
_COUNT_WORDS = {
    word: number
    for words_in_order in (
        "one two three four five six seven eight nine ten eleven twelve",
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    )
    for number, word in enumerate(words_in_order.split(), 1)
}


def repetition(text: str) -> float:
    """Share of a text's words, in [0, 1] by characters, that repeat eight or more in a row already written.

    At `REPETITIVE` or above the text is degenerate. First occurrences count as new, so a text written twice has 0.5 and
    an endless loop nears 1. Punctuation is passed over, which leaves tables and boards alone; numbers that count up by one
    ("Step 1: … Step 2: …") do not make a line new. Letters of an overlong word, emoji, and Han and kana characters
    (sixteen in a row) count as words.
    """
    tokens = _without_counters(_words_or_signs(text))
    spaceless = 2 * sum(len(token) == 1 and token.isalpha() for token in tokens) > len(tokens)
    size = 2 * LOOP_WORDS if spaceless and len(tokens) > 4 * LOOP_WORDS else LOOP_WORDS
    if len(tokens) <= size:
        return 0.0
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    return float(lengths[_repeated(tokens, size)].sum() / lengths.sum())


def _tokens(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(_unmarked(text.lower())):
        token = match.group()
        if len(token) > _LONG_WORD:
            yield from token
        else:
            yield token


def _words_or_signs(text: str) -> list[str]:
    """The words of a text; of one that is hardly anything but signs, every sign."""
    signs = "".join(text.split())
    found = list(_tokens(text))
    return found if sum(map(len, found)) > 0.05 * len(signs) else list(signs)


def _without_counters(tokens: list[str]) -> list[str]:
    """The tokens with every number that is one more than the number before it, and that number, made alike."""
    counts = [(i, count) for i, token in enumerate(tokens) if (count := _count(token)) is not None]
    alike = list(tokens)
    for (i, one), (j, next_one) in pairwise(counts):
        if next_one == one + 1:
            alike[i] = alike[j] = "#"
    return alike


def _count(token: str) -> int | None:
    if len(token) <= 9 and token.isascii() and token.isdigit():
        return int(token)
    return _COUNT_WORDS.get(token)


def _repeated(tokens: list[str], size: int) -> np.ndarray:
    """Which tokens lie in a window of `size` tokens seen before, (T,) bool; windows are compared by a 64-bit hash."""
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(t, len(numbers) + 1) for t in tokens), dtype=np.uint64, count=len(tokens))
    windows = np.zeros(len(tokens) - size + 1, dtype=np.uint64)
    for offset in range(size):
        windows = windows * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + len(windows)]
    seen = np.ones(len(windows), dtype=bool)
    seen[np.unique(windows, return_index=True)[1]] = False
    covered = np.zeros(len(tokens) + 1, dtype=np.int64)
    np.add.at(covered, np.flatnonzero(seen), 1)
    np.add.at(covered, np.flatnonzero(seen) + size, -1)
    return np.cumsum(covered[:-1]) > 0
