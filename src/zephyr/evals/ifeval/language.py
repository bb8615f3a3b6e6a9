"""Which language a text is in: by its script, and where several languages share one, by their commonest words and their own letters.

The original asks a classifier of character n-grams, which draws random numbers and so may answer differently from run to run.
This one is a table and a sum. docs/offline-judges.md says how often both give the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

# of the languages that a prompt may ask for, those that have a script of their own: by what the names of its letters begin with
_SCRIPTS = {
    "BENGALI": "bn", "THAI": "th", "TAMIL": "ta", "TELUGU": "te", "HANGUL": "ko", "HEBREW": "he", "KANNADA": "kn", "GUJARATI": "gu",
    "GURMUKHI": "pa", "MALAYALAM": "ml", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh", "GREEK": "el", "GEORGIAN": "ka", "ARMENIAN": "hy",
    "KHMER": "km", "LAO": "lo", "MYANMAR": "my", "SINHALA": "si", "ETHIOPIC": "am",
}  # fmt: skip
_SHARED = ("LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI")

# the commonest words of languages that share a script; those that nobody asks for are here so that they are taken for no other
_WORDS: Mapping[str, Mapping[str, str]] = {
    "LATIN": {
        "en": """the of and to in is that it for was on with as you at this be are have from or not by but what all were when we there
            can an your which their if will do how about out them then she he they my me his her our so up some these would who has
            more i its a please one new it's don't i'm than into been also may should must""",
        "es": """de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin sobre este ya
            entre cuando todo esta ser son dos también fue había era muy años hasta desde está mi porque qué sólo hay gracias usted
            eso ella yo hoy nos hace bien así donde puede otro tiene cada""",
        "pt": """de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser
            quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem nas me esse
            eles você são hoje bem então onde pode outro tem cada""",
        "fr": """de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont la ou avec son aux d'une
            cette d'un nous vous je mais leur été on ses même elle comme ils tout très c'est être fait n'est qu'il votre notre mon
            sa si ces l'on""",
        "de": """der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie
            nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein
            wurde ich wir ihr kann sehr mein dein diese dieser""",
        "it": """di e il la che in un a per è una del non sono si con le da della i come dei anche lo nel alla più ma gli al questo ha
            delle o ho su se mi era ai suo sua cui nella dal perché tra molto loro quando essere dalla tutto lei io ci degli questa
            stato ancora""",
        "pl": """w i z na do się nie że o jest to a jak po od za przez co dla są ale ich oraz tego tym jego ten go był może można być
            przy które który czy lub już tylko jej ze tak bardzo więc mnie dla było będzie jako nas pan jeśli gdy""",
        "vi": """và của là có được trong cho một không với người này các những để khi đã từ như đến về tôi bạn sẽ cũng ra nhiều nó rất
            nhưng ở vào lại nếu theo còn hay thì làm đó chúng phải""",
        "sw": """ya na wa kwa ni katika za la kuwa hii cha yake hiyo kama au pia lakini si hilo vya wake mimi wewe sana watu mtu ambayo
            hivyo huo kwamba ili baada kila zaidi hapa huyu moja yangu yako wao nini kwenye hadi""",
        "fi": """ja on ei että se hän oli joka ovat mutta kun niin myös kuin tai sen ole jos voi olla sitä hänen ne tämä mitä minä sinä
            olen vain nyt jo jotka mukaan kanssa sekä voit tämän joten hyvin koska""",
        "nl": """de het een van en in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit door over ik hij ze je wat
            worden wordt heeft naar deze geen kan meer al zo wel onze mijn moet""",
        "sv": """och att det i en som på är av för med till den har de inte om ett men var jag så vi kan från han eller när ut nu man sig
            vara hade efter vid över också du din mycket""",
        "da": """og at det i en som på er af for med til den har de ikke om et men var jeg så vi kan fra han eller når ud nu man sig være
            efter ved over også blev hvor skal du meget""",
        "ro": """și de în la a cu pe o nu este un că din pentru mai se care ce ca sunt fi sau prin dar au după lui ale sa am această fost
            ei foarte avea când toate acest""",
        "ca": """de i la el que en a els les un una per amb és del no dels al es com més va són o però seva ha aquest aquesta també molt
            entre pels pel ser quan on""",
        "tr": """ve bir bu için ile da de olarak daha çok en var gibi olan ne o kadar sonra ama değil ki ben mi her ya veya sen bunu
            olduğu tarafından şey""",
        "hu": """a az és hogy nem is egy ez van meg de volt csak ha el mint már azt vagy még ki lehet nagyon ezt kell én majd más itt
            lesz voltak minden""",
        "cs": """a se v na je že o s z do i to k ve pro za by ale si po jako od jsem jsou byl jeho tak podle nebo která který není při
            být jen může také už""",
        "id": """yang dan di dengan untuk dari ini itu pada tidak dalam akan adalah ke juga saya ada atau bisa oleh karena mereka kami
            anda sebagai lebih telah dapat seperti kita dia""",
        "tl": """ang ng sa na mga at ay ko siya ito para ka hindi ako kung may nang si ni mo po niya kanilang lang din natin""",
    },
    "CYRILLIC": {
        "ru": """и в не на что я с он а как это по но они к из у за вы так же от то все о для мы бы было только или если его ее мне еще
            был когда уже может чтобы есть при этого также вас ваш очень""",
        "uk": """і в не на що я з він а як це по але до та у за ви так же від то все про для ми було тільки або якщо його мені ще був
            коли вже може щоб є при цього також вас ваш дуже й які""",
        "bg": """и в не на че аз с той а как това по но те към от за вие така се то всичко ще са да е ли си са беше може само или ако му
            му има при този тази също вас ваш много което които като след до със във""",
        "sr": """и у не на да је се за са од као који што су то али о из или није они бити које овај та""",
        "mk": """и во не на дека со се да за од што е ќе како но тоа има или при исто така овој оваа многу ги го""",
    },
    "ARABIC": {
        "ar": """في من على أن إلى التي هذا هذه مع ما لا كان عن أو كل ذلك لم بعد قد الذي بين كما هو هي أنا لك يمكن إذا ثم وقد وهو حتى عند""",
        "fa": """در به از که این را با است برای آن یک خود تا کرد بر هم نیز شد می شود ها های اما یا ما شما هر کند باید بود دارد من او است""",
        "ur": """کے کی میں اور ہے کا سے کو نے پر یہ ہیں کہ اس ایک بھی وہ تھا ہو نہیں لیے تو جو کر گیا آپ ہم کیا مجھے تھی ساتھ""",
    },
    "DEVANAGARI": {
        "hi": """के में है की और से का को हैं पर यह ने एक भी नहीं कि हो इस तो था वह जो कर आप मैं हम अपने लिए तक या जा रहा थे साथ कुछ बहुत""",
        "mr": """आणि आहे या च्या मध्ये ते आहेत हे की एक तर होते ही हा तो म्हणून केले नाही त्या आपण मी तुम्ही आपल्या साठी किंवा होता पण जे
            काही त्यांच्या असे""",
        "ne": """र छ को मा यो पनि हो लागि एक गर्न छन् भएको गरेको तपाईं हरू म हामी ले लाई तर भने वा यस त्यो हुन् छैन धेरै हुन्छ आफ्नो
            गर्नुहोस् तपाईंको हाम्रो""",
    },
}

# letters that only some of the languages have: each is worth as much as half a common word
_LETTERS: Mapping[str, str] = {
    "es": "ñ¿¡", "pt": "ãõ", "fr": "èêœç", "de": "ßäöü", "it": "òì", "pl": "łąężśźć", "fi": "äö", "sv": "åäö", "da": "øæå",
    "ro": "șță", "tr": "ğşı", "hu": "őű", "cs": "řěůč", "vi": "ăơưđạảấầẩậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỹ", "ca": "·",
    "ru": "ыэё", "uk": "іїєґ", "bg": "ъщ", "sr": "јљњћђџ", "mk": "ѓќѕј", "ar": "ةىيكأإ", "fa": "پچژگکی", "ur": "ٹڈڑںےہھ",
    "mr": "ळ", "hi": "ड़ढ़", "ne": "",
}  # fmt: skip
_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "mr": ("च्या", "ांना", "मध्ये", "साठी", "ण्यात", "तात"),
    "ne": ("हरू", "लाई", "को", "मा", "छन्", "नुहोस्", "ेको"),
    "hi": ("ों", "ता", "ें", "ने"),
    "en": ("ing", "tion", "ness", "ght", "ould"),
    "sw": ("isha", "ika", "ana"),
    "fi": ("ssa", "ssä", "sta", "stä", "llä", "nen", "ksi"),
}  # fmt: skip
# by their code, ISO 639-1: those that a prompt may ask for
LANGUAGES = {
    "en": "English", "es": "Spanish", "pt": "Portuguese", "ar": "Arabic", "hi": "Hindi", "fr": "French", "ru": "Russian", "de": "German",
    "ja": "Japanese", "it": "Italian", "bn": "Bengali", "uk": "Ukrainian", "th": "Thai", "ur": "Urdu", "ta": "Tamil", "te": "Telugu",
    "bg": "Bulgarian", "ko": "Korean", "pl": "Polish", "he": "Hebrew", "fa": "Persian", "vi": "Vietnamese", "ne": "Nepali",
    "sw": "Swahili", "kn": "Kannada", "mr": "Marathi", "gu": "Gujarati", "pa": "Punjabi", "ml": "Malayalam", "fi": "Finnish",
}  # fmt: skip

_ADDRESS = re.compile(r"https?://\S+|\S+@\S+")  # they are in no language
_SOFT = str.maketrans({"’": "'", "ʼ": "'"})


def detect(text: str) -> str | None:
    """The ISO 639-1 code of the language that most of a text is in, or None where it has no letters.

    A text in Latin letters that has no word of any of the languages is taken for English.
    """
    text = _ADDRESS.sub(" ", text).translate(_SOFT).lower()
    scripts = Counter(filter(None, map(_script, text)))
    if not scripts:
        return None
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.05 * scripts["CJK"]:  # Japanese is written in three at once
        scripts["HIRAGANA"] += scripts.pop("CJK", 0) + scripts.pop("KATAKANA", 0)
    script = max(scripts, key=lambda name: (scripts[name], name))
    return _among(text, script) if script in _SHARED else _SCRIPTS.get(script, "other")


def _script(c: str) -> str | None:
    """The script of a letter: the first word of its name."""
    if c.isascii():
        return "LATIN" if c.isalpha() else None
    return unicodedata.name(c, "OTHER").split()[0] if unicodedata.category(c)[0] in "LM" else None


def _among(text: str, script: str) -> str:
    """Of the languages of a script, the one whose words, letters and endings a text has most of."""
    words = _words(text)
    letters = Counter(text)
    scores = dict.fromkeys(_WORDS[script], 0.0)
    for word, count in Counter(words).items():
        owners = [name for name, known in _SETS[script].items() if word in known]
        for name in owners:
            # a word of several languages says less, and so does a single letter, which may be a name in a program
            scores[name] += count / len(owners) * (0.3 if len(word) == 1 and script == "LATIN" else 1.0)
    for name in scores:
        scores[name] += 0.5 * sum(letters[c] for c in _LETTERS.get(name, "")) / max(1, _sharing(name, script))
        if endings := _ENDINGS.get(name):
            scores[name] += 0.25 * sum(word.endswith(endings) and len(word) > 4 for word in words)
    return max(scores, key=lambda name: scores[name])  # of equals the first: English


def _words(text: str) -> list[str]:
    """The words of a text, with the marks that belong to their letters, and apostrophes within."""
    kept = "".join(c if c.isalpha() or unicodedata.category(c)[0] == "M" or c in "'\u200c" else " " for c in text)
    return [word.strip("'") for word in kept.split()]


def _sharing(name: str, script: str) -> int:
    """Among how many languages of the script its letters are divided."""
    return 1 + sum(bool(set(_LETTERS.get(name, "")) & set(_LETTERS.get(other, ""))) for other in _WORDS[script] if other != name)


_SETS = {script: {name: frozenset(words.split()) for name, words in known.items()} for script, known in _WORDS.items()}
