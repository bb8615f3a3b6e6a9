"""An assistant that speaks of itself instead of answering: disclaimers, and "as an AI".

Each looks at the assistant's own words alone: quotations, code, and what repeats an earlier turn of the user are left alone, and
so is a true word about itself where the user asked for one ("are you a human?").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zephyr.text.filters.base import Hit, Turn, View, matches, own_words, scripted, words

_PROGRAM = (
    r"(?:ai|a\.i\.|artificial intelligence|(?:large |pretrained |pre-trained )?language (?:ai )?model|machine learning model|"
    r"text-based model|"
    r"chat ?bot|computer program|virtual assistant|digital assistant|chatgpt|gpt(?:-?[34][\w.]*)?|llm)"
)
# "as an AI researcher, I …" is a person
_TRADE = (
    r"(?![\w-]| (?:and \w+ )?(?:research\w*|engineer\w*|expert|develop(?:er|ment)|company|start-?up|scientist|ethic\w*|enthusiast|student|"
    r"consult\w+|specialist|practitioner|professional|founder|artist|business|firm|lab|team|policy|teacher|professor|writer|author|leader|"
    r"product|prompt|solution|architect|analyst|skeptic|optimist|advocate|trainer|newsletter|course|for|in the style)\b)"
)
_AS_AN_AI = re.compile(
    rf"\bas (?:i am |i'm )?(?:just |only |merely |simply )?an? (?:[\w-]+ ){{0,4}}?{_PROGRAM}{_TRADE}[^.!?\n]{{0,120}}?\b(?:i|my|me)\b"
    rf"|\bi(?:'m| am) (?:just |only |merely |simply |still |actually |but )*an? (?:[\w-]+ ){{0,3}}?{_PROGRAM}{_TRADE}"
    rf"|\bi(?:'m| am) (?:chatgpt|gpt-[34])\b"
)
_LIKE_ME = re.compile(rf"\b{_PROGRAM}s? (?:like|such as) (?:me|mine|myself)\b")
_AI_WORDS = words("ai artificial model chatbot chat bot program assistant chatgpt gpt llm")
_AI_NEEDLES = ("as an", "as a ", "as i", "as merely", "as only", "as just", "as simply", "i'm ", "i am ")
_AI_ANCHORS = ("as a", "as i", "as merely", "as only", "as just", "as simply", "i'm ", "i am ")
_LIKE_NEEDLES = (" like m", "such as m")
_FIRST_PERSON = words("i i'm my me mine myself")

_THING = (
    r"\b(?:ai|artificial intelligence|chat ?gpt\w*|gpt-?[\d.]*|(?:chat ?|ro)?bots?|language model|llm|openai|machine|computer|"
    r"program|software|"
    r"humans?|people|person|conscious\w*|sentien\w+|self-?aware\w*|alive|real)\b"
)
# what asks the assistant about itself
_ABOUT_IT = re.compile(
    rf"\b(?:are you|were you|you're|you are|your) [^.?!\n]{{0,40}}?{_THING}|{_THING}[^.?!\n]{{0,30}} (?:are|like) you\b"
    r"|\bwho (?:are|made|created|built|trained|developed|programmed) you\b|\bwhat are you\b(?! (?:doing|up|think|going|work))"
    r"|\b(?:your|ur) (?:name|model|training|architecture|capabilit\w+|limitation\w*|consciousness|creators?|"
    r"developers?|"
    r"programming|knowledge|data|gender|sex|age|cut-?off|memory)\b"
    r"|\b(?:about|introduce|describe) yourself\b|\bhow (?:do|are) you (?:work|made|trained|built|generate)"
    r"|\b(?:do|can|could|did) you (?:\w+ ){0,2}?(?:have |feel |experience |possess )(?:\w+ ){0,3}?(?:feel\w*|emotion\w*|opinions?|"
    r"conscious\w*|soul|"
    r"mind|body|gender|sex|preferences|thoughts|access|experiences?)\b"
    r"|\bcan you (?:actually |really |even |also )?think\b(?! of| about)[^.!\n]{0,30}\?"
    r"|\b(?:do|did|can|could) you (?:actually |really |even |also )?(?:feel|love|dream|remember|learn|see|hear|sleep|die|"
    r"get (?:bored|tired))\b"
    r"[^.!\n]{0,30}\?"
    r"|^\s*(?:so |and |but )?are you [\w ]{2,24}\??\s*$|\b(?:our|these) (?:conversations?|chats?)\b[^.!\n]{0,60}\?"
    r"|\bare you (?:able|capable|aware|an?)\b|\bif you (?:are|were) an? "
)


# where somebody else may be speaking
_INVENTS = re.compile(
    r"\b(?:story|stories|novel|poem|monologue|play|scene|dialog\w*|conversation|screenplay|lyrics|song|speech|essay|letter|joke|"
    r"role-?play\w*|act as|"
    r"pretend|imagine|persona|in the (?:voice|style) of|rewrite|as if you)\b"
)
_AS_SOMETHING = re.compile(rf"\bas an? (?!(?:[\w-]+ ){{0,4}}{_PROGRAM}\b)[\w -]{{2,30}}, $")


def _in_a_part(view: View, i: int, at: int) -> bool:
    """Whether somebody else speaks: in a line of a play, down in a text that was asked for as fiction, or "as a mattress, I …"."""
    if scripted(view.lowers[i], at) or _AS_SOMETHING.search(view.lowers[i][max(0, at - 50) : at]):
        return True
    return at > 120 and _INVENTS.search(view.asked(i)[:2000]) is not None


def about_itself(view: View, i: int) -> bool:
    """Whether the user's turn that turn `i` answers asks about the assistant itself."""
    asked = view.asked(i)
    return bool(_ABOUT_IT.search(asked[:1500]) or _ABOUT_IT.search(asked[1500:][-1500:]))


def as_an_ai(messages: Sequence[Turn]) -> Hit | None:
    """The assistant calls itself a program where nobody asked what it is."""
    view = View.of(messages)
    if _FIRST_PERSON.isdisjoint(view.words) or _AI_WORDS.isdisjoint(view.words):
        return None
    called = [
        *matches(view, view.answers, _AI_NEEDLES, _AS_AN_AI, _AI_ANCHORS),
        *matches(view, view.answers, _LIKE_NEEDLES, _LIKE_ME),
    ]
    last = (-1, 0)  # the turn and the end of the match before: what lies within that is no match of its own
    for i, found in sorted(called, key=lambda one: (one[0], one[1].start())):
        if (i, found.start()) < last:
            continue
        last = (i, found.end())
        if own_words(view, i, *found.span()) and not about_itself(view, i) and not _in_a_part(view, i, found.start()):
            return Hit("as-an-ai", i, *found.span())
    return None


_NOT = r"(?:don't|do not|cannot|can't|can not|lack|not|unable|incapable|never|neither|no)"
_CLAUSE = re.compile(rf"\bi(?:'m| am| have| do)? (?:\w+ly |just |also |still )*{_NOT}\b(?:(?! but | unless )[^.!?\n;:]){{0,110}}")
_HAVE = r"(?:have|having|possess\w*|hold\w*|form\w*|lack|no|experienc\w+|capab\w+|capacity|ability)"
_OWN = r"(?:personal|human|subjective|first-?hand|real-?life|individual|lived|my own)"
_INNER = r"(?:feelings?|emotions?|opinions?|beliefs?|preferences?|consciousness|biases)"
_DENIED = re.compile(
    rf"\b{_HAVE}\b(?:(?! (?:any )?strong | your ).){{0,50}}?\b{_INNER}\b"
    r"(?! (?:for|towards?|about|on (?:the|this|that)|regarding|either way|left|anymore|to spare)\b)"
    rf"|\b{_HAVE}\b(?:(?! your | their ).){{0,40}}?\b{_OWN} (?:[\w-]+,? (?:or |and )?){{0,2}}?(?:experiences?|opinions?|views?|"
    rf"thoughts?|tastes?|life|interests?|"
    r"desires?|favou?rites?|attachments?|relationships?|memor(?:y|ies)|histor(?:y|ies)|stor(?:y|ies)|perspectives?|values?|goals|"
    r"identity|qualities|"
    r"traits|motivation\w*|anecdotes?|needs|characteristics|judge?ments?|sensations?|stances?|achievements?|background)\b"
    r"|\b(?:have|having|possess) (?:an? |any )?(?:actual |real |true )?(?:physical (?:body|form|presence|senses?|sensations?|"
    r"experiences?)|gender|"
    r"taste buds|personality|favou?rites?)\b"
    r"|\b(?:express|share|give|provide|offer|take|holding|forming) (?:\w+ ){0,2}?personal (?:\w+ (?:or|and) )?(?:opinions?|views?|"
    r"beliefs?|preferences?|"
    r"experiences?|judge?ments?)\b"
    r"|\b(?:feel|experience) (?:\w+ ){0,2}?(?:emotions?|feelings)\b(?! (?:for|towards?|about)\b)"
)
_I = words("i i'm")
# a clause that denies has one of these, mostly
_I_NOT = (
    "i do not",
    "i don't",
    "i cannot",
    "i can't",
    "i can not",
    "i lack",
    "i am ",
    "i have n",
    "i never",
    "i'm ",
    "ly don't",
    "ly do not",
)
_I_ANCHORS = ("i ", "i'm ")
_INNER_WORDS = words(
    "feeling feelings emotion emotions opinion opinions belief beliefs preference preferences consciousness biases personal human "
    "subjective first "
    "firsthand real lived own physical gender taste personality favorite favourite favorites favourites individual"
)


def disclaimer(messages: Sequence[Turn]) -> Hit | None:
    """The assistant denies feelings, opinions, preferences or experiences of its own where nobody asked about its nature."""
    view = View.of(messages)
    if _I.isdisjoint(view.words) or _INNER_WORDS.isdisjoint(view.words):
        return None
    for i, clause in matches(view, view.answers, _I_NOT, _CLAUSE, _I_ANCHORS):
        found = _DENIED.search(clause.group())
        if found is None:
            continue
        start, end = clause.start(), clause.start() + found.end()
        if own_words(view, i, start, end) and not about_itself(view, i) and not _in_a_part(view, i, start):
            return Hit("disclaimer", i, start, end)
    return None
