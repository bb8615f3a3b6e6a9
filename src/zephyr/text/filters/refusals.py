"""An assistant that declines, that says what it cannot do, or where its knowledge ends.

As with disclaimers, quotations, code and what repeats the user's words are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zephyr.text.filters.base import Hit, Turn, View, matches, own_words, words
from zephyr.text.filters.voice import about_itself

_SORRY = (
    r"(?:(?:i'm|i am|we are)? ?(?:very |so |truly |really )?sorry,?(?: for (?:the|any) \w+[,.]?)?|i apologi[sz]e(?: for (?:the|any) \w+)?|"
    r"my apologies|apologies|unfortunately|regrettably|sadly|i'm afraid|i regret)"
)
_CANNOT = (
    r"\bi(?: simply| just| also| currently| really| personally)? ?(?:cannot|can't|can not|won't|will not|'m not able to|"
    r"am not able to|'m unable to|"
    r"am unable to|am not (?:currently )?able to|'m not (?:currently )?able to|'m not allowed to|am not allowed to|"
    r"am not (?:programmed|designed|capable)"
    r"|'m not (?:programmed|designed|capable|comfortable)|am not comfortable|must (?:decline|refuse)|do not have the (?:ability|"
    r"capability|capacity) to|"
    r"don't have the (?:ability|capability|capacity) to|have to decline)\b"
)
_DO = (
    r"(?:provid|giv|creat|writ|generat|fulfil|assist|help|answer|complet|perform|comply|continu|mak|produc|offer|engag|support|"
    r"discuss|shar|list|tell|"
    r"design|develop|translat|rewrit|summari[sz]|build|cod(?:e|ing)|pretend|sing|choos|chang|adopt|impersonat|role-?play|act |"
    r"becom|highlight|format|"
    r"respond|accommodat|suggest|recommend|advis|explain|describ|compos|draft|convert|solv|calculat|do (?:that|this)|promot|"
    r"condon|fulfill|edit|proceed|"
    r"follow|execut|carry out|browse|access|see |view|open|run |display|show|draw|search|send|recall|remember|predict|read |"
    r"download|upload|"
    r"process|analy[sz]e|watch|listen|hear|retriev|look up|schedul|connect|embed|insert|physically|directly|currently|visually|interact)"
)
_REFUSES = re.compile(
    rf"{_CANNOT}(?: (?:to|of|for))?(?: \w+ly)? {_DO}[^.!?\n]{{0,240}}|\bi (?:must|have to) (?:decline|refuse)\b[^.!?\n]{{0,240}}"
)
_AGAINST = re.compile(
    r"\b(?:(?:against|violates?|goes against) (?:my|our|openai's) (?:programming|guidelines|polic(?:y|ies)|principles|content polic\w+|"
    r"use case polic\w+|ethic\w*)|(?:is|be|are) not (?:appropriate|ethical) (?:for me |or \w+ )?to (?:provide|generate|create|"
    r"write|engage|make|use))\b"
)
# near the head of an answer: a refusal further down is a remark
_HEAD = 260
_LIMIT = re.compile(
    r"\b(?:brows\w+|internet|the web|websites?|online|real-?time|up-?to-?date|live |latest|current(?!ly)|access|images?|pictures?|"
    r"photos?|photograph\w*|"
    r"pics?|videos?|audio|files?|folders?|links?|urls?|attach\w*|documents?|pdfs?|see|view|open|hear|listen|watch|download|upload|"
    r"send|email you|"
    r"recall|remember|previous (?:conversation|chat|interaction|session)s?|retain|memory|databases?|search|visual\w*|draw\w*|"
    r"physical\w*|future|"
    r"predict\w*|graph(?:ic)?s?|charts?|diagrams?|interact with|execute|run |location|schedule|display|screen\w*|show you|"
    r"external|calendar|"
    r"directly|verify|guarantee)\b"
)
_ASKS = re.compile(
    r"\b(?:context|more (?:information|details?|specific)|not (?:provided|specified|mentioned|clear|included|enough|sure|aware|familiar)|"
    r"(?:you )?(?:haven't|have not|didn't|did not|don't|do not) (?:provide|specify|include|give|mention|ask|have (?:enough|any|"
    r"sufficient|the))\w*|"
    r"without (?:\w+ ){0,3}(?:more|information|context|knowing|specific|further|seeing|additional|having|a |the |any )|"
    r"(?:could|can|would) you (?:please )?(?:provide|clarify|specify|share|give|tell|paste|repeat|rephrase|confirm)|"
    r"please (?:provide|clarify|specify|share|"
    r"give|paste|let me know (?:what|which))|unclear|incomplete|missing|clarif\w+|understand|no (?:information|text|question|mention|data)|"
    r"find (?:any|a |the|information)|been provided|in a single|in one |seems to be|does not (?:exist|contain|appear|seem|include|"
    r"mention|provide|have)|doesn't (?:exist|contain|appear|seem)|"
    r"cut off|insufficient|sufficient|what you(?:'re| are|r)? |due to (?:the )?(?:token|length|character|space|size)|too (?:long|"
    r"large|many)|"
    r"need (?:more|to know|some|additional|the|access))\b"
)
_HARM = re.compile(
    r"\b(?:bombs?|explosiv\w+|weapons?|guns?|kill\w*|murder\w*|suicid\w*|self-?harm|hack\w*|crack(?:ed|ing)?|malware|virus|"
    r"ransomware|phish\w*|ddos|"
    r"keylog\w*|exploit\w*|steal\w*|stolen|theft|fraud\w*|scam\w*|counterfeit\w*|forge[ds]?|illegal\w*|illicit\w*|drugs?|cocaine|"
    r"heroin|meth|lsd|"
    r"porn\w*|nsfw|sex\w*|erotic\w*|nud(?:e|ity)|naked|horny|incest|rap(?:e|ist)|fetish\w*|racis[mt]\w*|racial slur\w*|slurs?|"
    r"nazis?|hitler|genocid\w*|"
    r"terroris\w+|poison\w*|torture\w*|abus\w+|blackmail\w*|stalk\w*|pirat(?:ed|ing)|pirate (?:bay|games?|software|movies?)|"
    r"torrents?|cheat\w*|bypass\w*|jailbreak\w*|"
    r"plagiari\w+|offensive|insult\w*|"
    r"hate\w*|violen\w+|discriminat\w+|sexist\w*|stereotyp\w*|harass\w*|dox\w*|addresses? of|password|launder\w*|tax evasion|"
    r"undress\w*|gore|gory|"
    r"swear\w*|curs(?:e|ing)|profan\w+|vulgar\w*|fuck\w*|shit\w*|bitch\w*|nigg\w*|fag\w*|dan|evade|detect\w*|copyright\w*|lyrics|"
    r"self-?medicat\w*|"
    r"overdose\w*|diagnos\w+|dosage|prescri\w+|medical advice|kidnap\w*|smuggl\w*|criminal|crimes?|shoplift\w*)\b"
)
_REFUSE_WORDS = words("cannot can't unable able won't allowed decline refuse ability capability capacity capable programmed")
_REFUSE_WORDS |= words("designed comfortable against violate violates appropriate ethical not")
_FILLER = re.compile(
    r"help (?:but|feeling|thinking|it)|recommend \w+ (?:enough|highly)|tell you how|make it|continu\w* (?:to (?:live|work|ignore)|"
    r"living|like this)"
)
# what may stand before "I cannot" in the same breath
_BEFORE = re.compile(
    rf"(?:{_SORRY}|as |since |because |given |based |well\b|hello\b|hi\b|ok\b|okay\b|no\b|yes\b|sure\b|thank|"
    rf"but\b|however\b|currently|"
    r"due to|at this time|i (?:understand|appreciate|see))"
)


_REFUSE_NEEDLES = ("cannot", "can't", "can not", "not", "unable", "won't", "decline", "refuse", "against", "violate")


def _refused(view: View, i: int) -> tuple[int, int] | None:
    """The span of a refusal at the head of an answer, with the rest of its sentence."""
    low = view.lowers[i]
    head = low[: _HEAD + 300]
    if not any(word in head for word in _REFUSE_NEEDLES):
        return None
    for found in _REFUSES.finditer(head):
        before = low[: found.start()]
        # a refusal speaks to the user from the first: what stands before it is an apology, a greeting or a clause of the same sentence
        opening = not before.strip() or _BEFORE.match(before.lstrip()) is not None
        if (
            opening
            and found.start() <= _HEAD
            and "\n" not in before.strip()
            and _FILLER.search(found.group()) is None
            and own_words(view, i, *found.span())
        ):
            return found.span()
    for found in _AGAINST.finditer(head):
        if found.start() <= _HEAD and own_words(view, i, *found.span()):
            return found.span()
    return None


def _declines(view: View) -> list[tuple[int, int, int]]:
    if _REFUSE_WORDS.isdisjoint(view.words):
        return []
    spans = [(i, _refused(view, i)) for i in view.answers]
    return [(i, *span) for i, span in spans if span is not None]


def _in_letter(low: str) -> bool:
    return low.lstrip().startswith(("dear ", "subject:", "hi ", "hey ", '"', "\u201c", "verse", "[verse", "(verse", "title:"))


def refusal(messages: Sequence[Turn]) -> Hit | None:
    """The assistant declines what it could write, though the request shows no harm and nothing is missing from it."""
    view = View.of(messages)
    for i, start, end in _declines(view):
        low, asked = view.lowers[i], view.asked(i)
        said = low[: end + 200]
        if _ASKS.search(said) or _LIMIT.search(low[:end]) or _HARM.search(asked[-3000:]) or _in_letter(low) or about_itself(view, i):
            continue
        return Hit("refusal", i, start, end)
    return None


def no_access(messages: Sequence[Turn]) -> Hit | None:
    """The assistant says that it cannot browse, see, run, send or remember something."""
    view = View.of(messages)
    for i, start, end in _declines(view):
        if _LIMIT.search(view.lowers[i][:end]) and not _in_letter(view.lowers[i]):
            return Hit("no-access", i, start, end)
    return None


_CUTOFF = re.compile(
    r"\bmy (?:last |latest |current )?(?:knowledge|training|data|information)(?: data| base)?(?: (?:cut-?off|update|only|goes|"
    r"ends|is (?:limited|based|current|"
    r"up)|was|stops|extends|includes)\b)|\bas of my (?:last |latest |most recent |knowledge |training )|\bmy (?:last|"
    r"latest) (?:update|training)\b"
    r"|\bi was (?:last )?trained (?:on|up|until|with)\b"
)
_CUTOFF_WORDS = words("my trained")
_CUTOFF_NEEDLES = ("cutoff", "cut-off", "my knowledge", "my training", "my last", "my latest", "my data", "my current", "trained")


def knowledge_cutoff(messages: Sequence[Turn]) -> Hit | None:
    """The assistant speaks of its training data or of the date at which its knowledge ends."""
    view = View.of(messages)
    if _CUTOFF_WORDS.isdisjoint(view.words):
        return None
    for i, found in matches(view, view.answers, _CUTOFF_NEEDLES, _CUTOFF):
        if own_words(view, i, *found.span()) and not about_itself(view, i):
            return Hit("knowledge-cutoff", i, *found.span())
    return None
