"""Whether answers are in the language that is wanted: by the script of the letters, and by small words that only one language has.

It knows the scripts of most languages, and tells thirteen languages in Latin letters apart. It does not tell apart languages of one
script beyond those (Russian and Bulgarian); for such, the script decides alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from zephyr.errors import UsageError
from zephyr.text.filters.base import Hit, Settings, Turn, View

# small words, none of which is a word of English or of another of these languages, in small letters; English: none of theirs
_WORDS = {
    "en": "the and of to is that it for with you are this be from your by have can or which will not their they has we if what would",
    "de": "der und ist nicht mit ein eine sich auf für dem auch werden wird oder einen sind wie zu sie ich nach kann über durch "
    "einer zum zur",
    "fr": "le les des est dans une pour qui sur avec sont vous pas ce cette plus par je nous au aux être votre leur ces mais ou où",
    "es": "el los las una por con para del como más pero sus está ser puede esta lo su hay muy también este son cómo usted",
    "it": "il di che della sono con gli nel non una dei delle più anche come questo alla da puoi essere questa degli",
    "pt": "uma não em para por mais como da dos são você ao também seu sua pode isso ou pela pelo às está",
    "nl": "het een van en zijn voor niet met op dat aan ook worden kunnen naar bij deze wordt je uw maar door heeft",
    "sv": "och att det som på för är av med inte den till kan om ett har jag du eller från din dig",
    "pl": "na się nie jest że dla jak oraz przez może są lub ich tego które który ale po przy twoje",
    "tr": "ve bir bu için ile olarak daha olan çok gibi değil veya kadar sonra ancak her olduğu nasıl",
    "id": "yang dan di untuk dengan ini dari adalah dalam tidak pada akan atau dapat itu ke anda juga saya bisa karena",
    "vi": "và của là có cho các được trong một không với những này để người khi từ đã bạn tôi",
    "ro": "și este în pentru sunt care cu mai sau din pe nu prin această fi poate dar ca unui unei",
}
_SETS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_SCRIPTS = {
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
    "hebrew": "\u0590-\u05ff",
    "devanagari": "\u0900-\u097f",
    "bengali": "\u0980-\u09ff",
    "tamil": "\u0b80-\u0bff",
    "thai": "\u0e00-\u0e7f",
    "hangul": "\uac00-\ud7af\u1100-\u11ff",
    "han": "\u4e00-\u9fff\u3400-\u4dbf",
    "kana": "\u3040-\u30ff",
}
_DENSE = {"han": 3, "kana": 2, "hangul": 2}  # a character says as much as this many letters
_OF_SCRIPT = {name: re.compile(f"[{span}]") for name, span in _SCRIPTS.items()}
_LANGUAGE_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_WORDS, ("latin",)),
    **dict.fromkeys(("ru", "uk", "bg", "sr", "be", "mk", "kk"), ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("devanagari",)),
    "el": ("greek",),
    "he": ("hebrew",),
    "bn": ("bengali",),
    "ta": ("tamil",),
    "th": ("thai",),
    "ko": ("hangul", "han"),
    "zh": ("han",),
    "ja": ("kana", "han"),
}
LANGUAGES = tuple(sorted(_LANGUAGE_SCRIPTS))

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")
_QUICK = 1500  # characters looked at first
_FAR = 6000  # characters from which prose is taken
_WINDOW = 700  # characters of prose looked at, at the beginning and at the end of that
_LEAST = 24  # letters below which a turn is too short to tell

# a request that wants another language: a name of one in English, or the word itself
_ASKS_FOR = re.compile(
    r"\b(?:translat\w*|transliterat\w*|bilingual|languages?|english|spanish|french|german|italian|portuguese|dutch|swedish|"
    r"norwegian|danish|finnish|icelandic|polish|"
    r"czech|slovak|hungarian|romanian|bulgarian|russian|ukrainian|serbian|croatian|bosnian|slovenian|albanian|greek|turkish|"
    r"arabic|hebrew|persian|farsi|urdu|"
    r"hindi|hinglish|bengali|tamil|telugu|marathi|gujarati|punjabi|sanskrit|thai|vietnamese|indonesian|malay|tagalog|filipino|"
    r"chinese|mandarin|cantonese|"
    r"japanese|korean|latin|swahili|zulu|afrikaans|esperanto|catalan|basque|galician|welsh|irish|gaelic|latvian|lithuanian|"
    r"estonian|mongolian|kazakh|"
    r"bahasa|hanzi|kanji|hiragana|pinyin|vocabulary|phrases?|lyrics|song|poem)\b"
)


def _prose(text: str) -> str:
    """The parts of a text that are looked at, without code and addresses."""
    text = text[:_FAR]
    if "`" in text or "://" in text:
        text = _CODE.sub(" ", text)
    return text if len(text) <= 2 * _WINDOW else text[:_WINDOW] + " " + text[-_WINDOW:]


def _is_english(low: str) -> bool:
    """A quick yes for what is English beyond doubt: small words, and next to nothing but ASCII."""
    low = low[:_QUICK]
    small = low.count(" the ") + low.count(" and ") + low.count(" of ") + low.count(" to ")
    return small * 120 >= len(low) and (low.isascii() or len(low.encode("utf-8", "replace")) - len(low) <= len(low) // 20)


def is_other(low: str, wanted: str) -> bool:
    """Whether a text, in small letters, is in another language than the one wanted. What is too short to tell is not."""
    if wanted == "en" and _is_english(low):
        return False
    prose = _prose(low)
    said = _WORD.findall(prose)
    foreign = not prose.isascii() and 20 * (len(prose.encode("utf-8", "replace")) - len(prose)) > len(prose)
    letters = {} if not foreign else {name: len(p.findall(prose)) * _DENSE.get(name, 1) for name, p in _OF_SCRIPT.items()}
    latin = letters.get("latin", 0) if letters else sum(map(len, said))
    total = sum(letters.values()) or latin
    if total < _LEAST:
        return False
    ours = _LANGUAGE_SCRIPTS[wanted]
    mine = sum(letters.get(script, 0) for script in ours if script != "latin") + (latin if "latin" in ours else 0)
    if wanted == "zh":
        mine -= letters.get("kana", 0) * 2  # Japanese has Han characters too
    if wanted == "ja" and not letters.get("kana"):
        mine = 0
    if 2 * mine < total:
        return True
    return "latin" in ours and _other_words(said, wanted)


def _other_words(words: list[str], wanted: str) -> bool:
    if len(words) < 6:
        return False
    mine = sum(map(_SETS[wanted].__contains__, words))
    if 8 * mine >= len(words):
        return False
    theirs = [[word for word in words if word in known] for language, known in _SETS.items() if language != wanted]
    best = max(theirs, key=len)
    return len(set(best)) >= 3 and 9 * len(best) >= len(words) and len(best) > 2 * mine


def language(settings: Settings) -> Callable[[Sequence[Turn]], Hit | None]:
    """The filter of answers in another language than the wanted one, where the user did not ask for that.

    Raises:
        UsageError: the wanted language is not known.
    """
    wanted = settings.language
    if wanted not in _LANGUAGE_SCRIPTS:
        raise UsageError(f"filters.language: {wanted!r} is not known; known are {', '.join(LANGUAGES)}")

    def find(messages: Sequence[Turn]) -> Hit | None:
        view = View.of(messages)
        for i in view.answers:
            if is_other(view.lowers[i], wanted) and not _was_asked_for(view, i, wanted):
                return Hit("language", i, 0, len(view.texts[i]))
        return None

    return find


def _was_asked_for(view: View, i: int, wanted: str) -> bool:
    """Whether the user, who writes in the wanted language, asked in this turn or before for another."""
    asked = view.asked(i)
    if asked and is_other(asked, wanted) and not _ASKS_FOR.search(asked[:300]):
        return False
    return any(_ASKS_FOR.search(view.lowers[j]) for j in range(i) if view.roles[j] != "assistant")
