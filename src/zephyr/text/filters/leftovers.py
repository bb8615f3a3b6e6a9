"""What machines left in the text: markers of chat formats, labels of roles, buttons of web pages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zephyr.text.filters.base import Hit, Turn, View, in_code, matches, own_words, words

# the markers of the common chat formats, as they are written in small letters
_TOKENS = re.compile(
    r"<\|(?:im_(?:start|end|sep)|endoftext|end(?:_of_text|ofprompt)?|begin_of_text|start_header_id|end_header_id|eo[tm]_id|python_tag|"
    r"user|assistant|system|prompter|human|bot|pad|sep|tool|observation|message|channel|return|start|endofturn|startofturn|end_of_turn|"
    r"start_of_role|end_of_role|turn|eos|bos|vision_start|vision_end|fim_\w+)\|>"
    r"|<\uff5c(?:user|assistant|begin\u2581of\u2581sentence|end\u2581of\u2581sentence)\uff5c>"
    r"|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|<\|?(?:bos|eos|pad|unk)\|?>|<extra_id_\d+>|\[\|(?:human|ai|assistant|endofturn)\|\]"
    r"|<(?:human|bot|user|assistant|reserved_10[67])>:?(?=\s|$)|\bgpt4 (?:correct )?(?:user|assistant):"
    r"|###? ?(?:human|assistant|user|system|instruction|response)\s*:(?!\*)"
    r"|^\s*<s>|<s>\s*$|</s>\s*(?:$|\n|(?=\s*(?:<s>|\[inst|user|human|what|how|can)))"
)
# by a sign that every one of them has
_TOKEN_WORDS = {
    "<": (
        "<|",
        "<\uff5c",
        "sys>>",
        "_of_turn>",
        "<bos>",
        "<eos>",
        "<pad>",
        "<unk>",
        "<extra_id_",
        "<human>",
        "<bot>",
        "<user>",
        "<assistant>",
        "<reserved_10",
        "<s>",
        "</s>",
    ),
    "[": ("inst]", "[|"),
    "##": (
        "## human",
        "## assistant",
        "## user",
        "## system",
        "## instruction",
        "## response",
        "##human",
        "##assistant",
        "##user",
        "##instruction",
        "##response",
    ),
    "gpt4 ": ("gpt4 ",),
}
_ALL_TOKEN_WORDS = tuple(word for listed in _TOKEN_WORDS.values() for word in listed)
_ABOUT_TOKENS = re.compile(
    r"\b(?:special tokens?|tokeni[sz]\w+|prompt (?:format|template)|chat ?(?:template|format|ml)|fine-?tun\w+|stop (?:token|sequence)s?|"
    r"system prompt|vicuna)\b"
)
_ABOUT_HTML = re.compile(r"\b(?:html|strike\w*|css|tags?|markdown)\b")


def template_tokens(messages: Sequence[Turn]) -> Hit | None:
    """A marker of a chat format stands in the text (`<|im_start|>`, `[INST]`, `### Human:`), where nobody talks of such markers."""
    view = View.of(messages)
    low = view.all_lower
    if not any(sign in low and any(word in low for word in listed) for sign, listed in _TOKEN_WORDS.items()):
        return None
    for i, found in matches(view, range(len(view)), _ALL_TOKEN_WORDS, _TOKENS):
        about = _ABOUT_HTML if found.group().strip() in ("<s>", "</s>") else _ABOUT_TOKENS
        if in_code(view.texts[i], found.start()) or about.search(view.lowers[i][:4000]) or about.search(view.asked(i)[:4000]):
            continue
        if view.roles[i] == "assistant" and not own_words(view, i, *found.span()):
            continue
        return Hit("template-tokens", i, *found.span())
    return None


_SPEAKER = r"(?:assistant|ai(?: assistant)?|chatgpt|gpt(?:-?[34])?|chat ?bot|bot|bard|bing|claude)"
# the label at the very beginning; both sides of a talk that goes on in one answer
_OPENING = re.compile(rf"\s*(?:\*\*)?(?:{_SPEAKER}|response|answer from chatgpt)(?:\*\*)? ?:(?:\*\*)?\s")
_NEXT_TURN = re.compile(
    r"\n\s*(?:\*\*)?(?:human|user|prompter)(?:\*\*)? ?:(?:\*\*)?[ \n](?=(?:[^\n]*\n){1,12}\s*(?:\*\*)?(?:ai|assistant|bot|chatgpt|"
    r"chatbot)(?:\*\*)? ?:)"
)
_SPEAKERS = words("human user prompter assistant ai chatgpt gpt gpt3 gpt4 chatbot bot bard bing claude response answer")
_WANTS_TALK = re.compile(
    r"\b(?:dialog(?:ue)?s?|conversations?|chats?|chatbots?|transcripts?|scripts?|interviews?|role-?play\w*|act as|pretend|"
    r"simulat\w+|scene|skit|joke|prompts?|"
    r"personas?|examples?|stor(?:y|ies)|user (?:stor(?:y|ies)|flows?)|format|template|customer|agent|prefix\w*|jailbreak|dan|"
    r"label\w*|diagram\w*)\b"
)


def role_labels(messages: Sequence[Turn]) -> Hit | None:
    """An answer begins with its speaker's name ("Assistant:"), or goes on with the user's next turn, where no such talk was asked for."""
    view = View.of(messages)
    if _SPEAKERS.isdisjoint(view.words):
        return None
    for i in view.answers:
        low = view.lowers[i]
        found = _OPENING.match(low)
        if found is None and ("user" in low or "human" in low or "prompter" in low):
            found = _NEXT_TURN.search(low)
        if found is None or in_code(view.texts[i], found.start()):
            continue
        earlier = [view.lowers[j] for j in range(i) if view.roles[j] != "assistant"]
        label = found.group().strip()
        if any(label in text or _WANTS_TALK.search(text[:3000]) or _WANTS_TALK.search(text[3000:][-1000:]) for text in earlier):
            continue
        start = found.start() + len(found.group()) - len(found.group().lstrip())
        return Hit("role-labels", i, start, found.end())
    return None


# in small letters; what the pages of chat services show around the text
_INTERFACE = re.compile(
    r"share prompt\s*(?:$|\n)|save & submit ?cancel|save & submit\s*$|(?:stop generating|regenerate response)\s*(?:$|\n)|"
    r"chatgpt (?:\w+ \d+ version|may produce inaccurate|can make mistakes)|free research preview|upgrade to plus\s*(?:$|\n)|"
    r"was this response better or worse|is this conversation helpful so far|(?:^|\n)(?:[a-z+#]{1,12})? ?copy code\s*(?:$|\n)|"
    r"(?:^|\n)model: (?:default|gpt-[34])\S*(?: \(gpt-3\.5\))?\s*(?:$|\n)|(?:^|\n)(?:view other drafts|new chat|shared chat)\s*(?:$|\n)|"
    r"(?:^|\n)continue this (?:conversation|thread)\s*(?:$|\n)|\*?this conversation is shared from|"
    r"(?:^|\n)chatgpt said:|(?:^|\n)you said:\s*\n|"
    r"\bthis content may violate our content policy|"
    r"(?:^|\n)network error\s*$|(?:^|\n)!\[(?:chatgpt|user|uploaded image)[^\]\n]{0,40}\]|^\s*chatgpt\s*\n|"
    r"(?:^|\n)[1-9] ?/ ?[1-9]\s*$"
)
_INTERFACE_WORDS = words(
    "prompt submit submitcancel generating regenerate chatgpt preview plus helpful worse copy model drafts chat thread conversation said "
    "violate network uploaded"
)
_INTERFACE_NEEDLES = (
    "share prompt",
    "save & submit",
    "stop generating",
    "regenerate response",
    "chatgpt",
    "research preview",
    "upgrade to plus",
    "better or worse",
    "conversation helpful",
    "copy code",
    "\nmodel: ",
    "view other drafts",
    "new chat",
    "shared chat",
    "continue this ",
    "you said:",
    "may violate our",
    "network error",
    "uploaded image",
)
_COUNTER = re.compile(r"\n[1-9] / [1-9]\s*$")  # with spaces, as the page has it; 1/2 is a fraction


def interface(messages: Sequence[Turn]) -> Hit | None:
    """Words of a chat service's page were copied with the text ("Share Prompt", "Copy code", "2 / 2")."""
    view = View.of(messages)
    suspect = not _INTERFACE_WORDS.isdisjoint(view.words) and any(word in view.all_lower for word in _INTERFACE_NEEDLES)
    for i, low in enumerate(view.lowers):
        found = (
            _INTERFACE.search(low)
            if suspect and any(word in low for word in _INTERFACE_NEEDLES)
            else _COUNTER.search(low, max(0, len(low) - 12))
        )
        if found is not None and not in_code(view.texts[i], found.start()):
            lead = len(found.group()) - len(found.group().lstrip())
            return Hit("interface", i, found.start() + lead, max(found.start() + lead + 1, found.start() + len(found.group().rstrip())))
    return None
