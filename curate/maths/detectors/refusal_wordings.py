"""The wordings by which assistants decline and admit limits, by language."""

import re
from collections.abc import Sequence
from typing import NamedTuple

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
EN_LIMITED = (
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
    rf"\bi {_EN_NOT} {_EN_GAP}(?:provide|give|offer|share|make) (?:you )?(?:with )?(?:an? |the |any )?{EN_LIMITED}\b",
)
"""Wordings that admit a limit; a refusal only where nothing is answered beyond them."""

_LATIN_STEMS = {
    "de": r"nicht|kein|lehn|weiger|verstößt|widerspricht|gegen meine",
    "fr": r"\bje |impossible|ne m'est|contr|enfreint|viole|encontre",
    "es": r"puedo|podr|podemos|soy capaz|estoy|posible|debo|voy a|permitido|niego|rechaz|declin|prefiero no|tengo que|cómod"
    r"|contra|viola|infringe|incumple",
    "it": r"\bnon |rifiut|declin|preferisco|impossibil|contr|viol",
    "pt": r"\bnão |recus|declin|prefiro|impossível|obrigad|contr|viola",
    "nl": r"niet|geen|weiger|afwijzen|afslaan|strijd met|tegen|schendt",
    "pl": r"\bnie |odm[óa]w|wolę nie|sprzeczn|narusza|niezgodn|wbrew",
    "tr": r"[ae]m(?:am|em|ıy|iy|ay|ey)|redde|geri çevirmek|yapmam|etmem|vermem|olmam|sağlamam|sunmam|yönerge|politika|ilkele"
    r"|kurallar",
}
"""Pieces of words by language; text with none of them has no wording of `_DECLINES` of that language."""
_SCRIPTS = {
    "ru": "[а-яё]",
    "ar": "[\u0600-\u06ff]",
    "zh": "[\u4e00-\u9fff]",
    "ko": "[\uac00-\ud7a3]",
    "ja": "[\u3040-\u30ff\u4e00-\u9fff]",
}


class Wording(NamedTuple):
    """Wordings that are looked for together."""

    pattern: re.Pattern[str]
    gate: re.Pattern[str] | None = None
    """What text must contain for the pattern to be found in it: a quick look that spares most texts the long one."""

    def search(self, text: str) -> re.Match[str] | None:
        """The first place of the pattern."""
        return None if self.gate and not self.gate.search(text) else self.pattern.search(text)


def _gate(language: str) -> re.Pattern[str] | None:
    hints = _LATIN_STEMS.get(language) or _SCRIPTS.get(language)
    return re.compile(hints) if hints else None


def _either(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def first(wordings: Sequence[Wording], text: str) -> re.Match[str] | None:
    """The first place of any wording; of several at one place the one listed first."""
    found = [match for wording in wordings if (match := wording.search(text))]
    return min(found, key=re.Match.start, default=None)


DECLINES = tuple(Wording(_either(patterns), _gate(language)) for language, patterns in _DECLINES.items())
_FOREIGN = re.compile(f"[{''.join(script.strip('[]') for script in _SCRIPTS.values())}]")
_OTHER_SCRIPTS = [pattern for pattern in _DISCLAIMERS if re.search(_FOREIGN, pattern) and not pattern.startswith(r"\b(?:als")]
DISCLAIMS = (
    Wording(_either([pattern for pattern in _DISCLAIMERS if pattern not in _OTHER_SCRIPTS])),
    Wording(_either(_OTHER_SCRIPTS), _FOREIGN),
)
