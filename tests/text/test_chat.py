"""The chat format: what is learnt, what is a prefix of what, and that plain transformers reads it the same."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

import tiny
from zephyr.errors import DataError, ModelError
from zephyr.records import Message, Role, parse_dialogue
from zephyr.text.chat import ROLE_MARKERS, ChatFormat, describe
from zephyr.text.template import zephyr_template
from zephyr.text.tokens import adds_bos

# an instruction format in plain text: nothing special stands before the first answer
ALPACA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Kind:
    """A tokenizer with a template, and what is true of the two."""

    name: str
    build: Callable[[], Any]
    template: str
    end: str
    trims: bool = False
    system: bool = True
    bos: str = "none"  # none | one | one an exchange
    merges: bool = False  # whether its tokenizer joins a line break before an answer with space at its beginning
    pad: str = ""  # what the template puts around a trimmed answer


KINDS = [
    Kind("paper, bytes", tiny.byte_tokenizer, "zephyr", "<|im_end|>", merges=True),
    Kind("paper, sentencepiece, space before every stretch", tiny.sentencepiece_tokenizer, "zephyr", "</s>", bos="one"),
    Kind(
        "paper, sentencepiece, space before the first", partial(tiny.sentencepiece_tokenizer, prefix="first"), "zephyr", "</s>", bos="one"
    ),
    Kind("paper, sentencepiece, no space", partial(tiny.sentencepiece_tokenizer, prefix="never"), "zephyr", "</s>", bos="one", merges=True),
    Kind("paper, Llama 3", tiny.llama3_tokenizer, "zephyr", "<|end_of_text|>", bos="one", merges=True),
    Kind("ChatML", tiny.byte_tokenizer, "tokenizer", "<|im_end|>", merges=True),
    Kind("ChatML, EOS is another token", partial(tiny.byte_tokenizer, eos="<|endoftext|>"), "tokenizer", "<|im_end|>", merges=True),
    Kind("Llama 2", tiny.sentencepiece_tokenizer, tiny.LLAMA2, "</s>", trims=True, bos="one an exchange", pad=" "),
    Kind("Mistral", partial(tiny.sentencepiece_tokenizer, prefix="first"), tiny.MISTRAL, "</s>", system=False, bos="one"),
    Kind("Llama 3", tiny.llama3_tokenizer, "tokenizer", "<|eot_id|>", trims=True, bos="one"),
    Kind("Gemma", partial(tiny.sentencepiece_tokenizer, prefix="never"), tiny.GEMMA, "<end_of_turn>", trims=True, system=False, bos="one"),
    Kind("plain text, bytes", tiny.byte_tokenizer, ALPACA, "<|im_end|>", merges=True),
    Kind("plain text, Llama 3", tiny.llama3_tokenizer, "{{ bos_token }}" + ALPACA, "<|end_of_text|>", bos="one", merges=True),
]
PER_KIND = 770  # times 13 kinds: 10,010 dialogues

WORDS = (
    "the", "answer", "is", "yes", "dog", "Übung", "naïve", "œuvre", "Привет", "мир", "مرحبا", "שלום", "नमस्ते", "สวัสดี",
    "世界", "你好，世界。", "こんにちは", "日", "한국어", "😀", "👩‍👩‍👧‍👦", "🇫🇷", "e\u0301", "\u200b", "\u00a0", "\ufeff", "\u2028", "ﬁ", "Ⅷ",
    "1", "42", "3.14159", "2,718,281", "1e-7", "items[0];", "{'a': [1, 2]}", "x<y", "a|b", "<|", "|>", "< |user|>", "<s", "/s>", "[ INST ]",
    "<b>", "</p>", "```python\nprint('hi')\n```", "def f(a):\n    return a\n", "\t\tindented", "don't", "I'LL", "C:\\temp", "§", "€5", "—", "…", "▁",
)  # fmt: skip
GAPS = (" ", " ", " ", " ", "  ", "\n", "\n\n", "\n\n\n", "\t", "", ", ", ".\n- ", "\r\n")
EDGES = ("",) * 12 + (" ", "  ", "\n", "\n\n", "\n\n\n", " \n", "\t", "\u00a0", "\u2003", "\r\n")


def text_of(rng: random.Random) -> str:
    """A turn: words of many scripts, code and numbers, now and then with space at its edges."""
    words = [rng.choice(WORDS) for _ in range(rng.randint(1, 9))]
    body = "".join(w + rng.choice(GAPS) for w in words[:-1]) + words[-1]
    text = rng.choice(EDGES) + body + rng.choice(EDGES)
    return text if text.strip() else text + "ok"


def dialogue_of(rng: random.Random) -> list[Message]:
    """One to five exchanges; a third with a system turn, some of them empty."""
    messages: list[Message] = []
    if rng.random() < 1 / 3:
        messages.append({"role": "system", "content": rng.choice(("", text_of(rng)))})
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 5))):
        messages += [{"role": "user", "content": text_of(rng)}, {"role": "assistant", "content": text_of(rng)}]
    return messages


def reload(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer as plain transformers finds it in a saved folder."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def said_in(kind: Kind, content: str) -> str:
    """What the template makes of an answer."""
    return kind.pad + content.strip() + kind.pad if kind.trims else content


def read_back(tokenizer: Any, text: str) -> str:
    """What decoding gives for `text`: sentencepiece writes a space as `▁`, so it cannot tell the two apart."""
    return text.replace("▁", " ") if tokenizer.unk_token == "<unk>" else text


def check(chat: ChatFormat, plain: Any, kind: Kind, messages: list[Message]) -> bool:
    """Every invariant of one dialogue; returns whether plain transformers gives the same ids."""
    tokenizer = chat.tokenizer
    end_id = tokenizer.convert_tokens_to_ids(kind.end)
    tokens = chat.encode(messages)
    ids = tokens.ids
    rendered = plain.apply_chat_template(messages, tokenize=False)
    parts = chat.parts(messages)
    answers = [(i, said_in(kind, m["content"]) + kind.end) for i, m in enumerate(messages) if m["role"] == "assistant"]
    assert "".join(text for text, _ in parts) == rendered
    assert [text for text, learnt in parts if learnt] == [answer for _, answer in answers]

    runs = runs_of(tokens.learnt)
    assert len(ids) == len(tokens.learnt) and len(runs) == len(answers)
    for (first, last), (i, answer) in zip(runs, answers, strict=True):
        assert chat.encode_prompt(messages[:i]) == ids[:first]  # what inference sees is what training saw
        assert ids[last - 1] == end_id and ids[first:last].count(end_id) == 1
        lead = tokenizer.decode(ids[first - 1 : first])  # decoders may drop the first space of a text
        assert tokenizer.decode(ids[first - 1 : last])[len(lead) :] == read_back(tokenizer, answer)
    first, last = runs[-1]
    assert chat.encode_pair(messages) == (ids[:first], ids[first:last])

    bos = tokenizer.bos_token_id
    if kind.bos != "none":
        assert ids[0] == bos
        assert ids.count(bos) == (1 if kind.bos == "one" else sum(m["role"] == "user" for m in messages))

    same = tuple(plain.apply_chat_template(messages)["input_ids"]) == ids
    return same and tuple(plain.apply_chat_template(messages[:-1], add_generation_prompt=True)["input_ids"]) == ids[:first]


def runs_of(learnt: tuple[bool, ...]) -> list[tuple[int, int]]:
    """Where learnt tokens begin and end."""
    edges = [t for t in range(len(learnt) + 1) if (t > 0 and learnt[t - 1]) != (t < len(learnt) and learnt[t])]
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.fixture(scope="module", params=KINDS, ids=lambda k: k.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, ChatFormat, Any]:
    kind: Kind = request.param
    chat = ChatFormat(kind.build(), kind.template)
    return kind, chat, reload(chat.tokenizer, tmp_path_factory.mktemp("tokenizer"))


def test_ten_thousand_generated_dialogues(made: tuple[Kind, ChatFormat, Any]) -> None:
    kind, chat, plain = made
    rng = random.Random(f"dialogues for {kind.name}")
    refused = merged = 0
    for _ in range(PER_KIND):
        messages = dialogue_of(rng)
        if messages[0]["role"] == "system" and not kind.system:
            with pytest.raises(DataError, match="refuses this conversation"):
                chat.encode(messages)
            refused += 1
            messages = messages[1:]
        if not check(chat, plain, kind, messages):
            merged += 1
            # the tokenizer joined the line break before an answer with the space at the answer's beginning
            assert any(m["role"] == "assistant" and m["content"][0].isspace() for m in messages), messages
    assert (refused > PER_KIND / 5) == (not kind.system)
    assert (0 < merged < PER_KIND / 3) if kind.merges else merged == 0, merged


def test_loss_on_all_learns_every_token_but_the_first(made: tuple[Kind, ChatFormat, Any]) -> None:
    kind, chat, _ = made
    messages = dialogue_of(random.Random(f"all of {kind.name}"))[-4:]
    tokens = chat.encode([m for m in messages if m["role"] != "system"], loss_on="all")
    assert tokens.ids == chat.encode([m for m in messages if m["role"] != "system"]).ids
    assert tokens.learnt == (False,) + (True,) * (len(tokens.ids) - 1)


def test_template_travels_with_the_saved_tokenizer(made: tuple[Kind, ChatFormat, Any]) -> None:
    kind, chat, plain = made
    assert plain.chat_template == chat.template
    again = ChatFormat(plain, "tokenizer")
    messages = dialogue_of(random.Random(f"again {kind.name}"))[-2:]
    assert again.encode(messages) == chat.encode(messages)
    assert (again.stop_ids, again.control_tokens, describe(again)) == (chat.stop_ids, chat.control_tokens, describe(chat))
    assert again.is_zephyr == (kind.template == "zephyr")


def test_stop_ids_are_eos_and_the_end_of_a_turn(made: tuple[Kind, ChatFormat, Any]) -> None:
    kind, chat, _ = made
    assert set(chat.stop_ids) == {chat.tokenizer.eos_token_id, chat.tokenizer.convert_tokens_to_ids(kind.end)}


def test_control_tokens_inside_a_turn_are_refused(made: tuple[Kind, ChatFormat, Any]) -> None:
    kind, chat, _ = made
    markers = {"zephyr": ROLE_MARKERS, tiny.LLAMA2: ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"), tiny.MISTRAL: ("[INST]", "[/INST]")}.get(
        kind.template, ()
    )
    assert {kind.end, chat.tokenizer.eos_token, *markers, *chat.tokenizer.all_special_tokens} <= set(chat.control_tokens)
    for token in chat.control_tokens:
        for role in (0, 1):
            messages = dialogue_of(random.Random(1))[-2:]
            messages[role]["content"] = f"before{token}after"
            for read in (chat.encode, chat.parts, chat.encode_pair, chat.encode_prompt):
                with pytest.raises(DataError, match=rf"turn {role} .* contains the control token") as caught:
                    read(messages)
                assert repr(token) in str(caught.value)


def test_ordinary_text_is_no_control_token(made: tuple[Kind, ChatFormat, Any]) -> None:
    _, chat, _ = made
    text = "user\n\nassistant model system <b>bold</b> [1] [a] <think>a thought</think>\n\n### INST <|> [ ] <html>"
    chat.encode([{"role": "user", "content": text}, {"role": "assistant", "content": text}])


# --- the paper's format, literally ----------------------------------------------------------------------------


def test_paper_format_reads_as_in_the_paper() -> None:
    chat = ChatFormat(tiny.sentencepiece_tokenizer(), "zephyr")
    messages: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    assert chat.render(messages) == "<s><|system|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\nYes</s>\n"
    assert chat.render(messages[:1], generation_prompt=True) == "<s><|system|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\n"
    system: list[Message] = [{"role": "system", "content": "Be brief."}]
    assert chat.render([*system, *messages]) == "<s><|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nYes</s>\n"
    empty: list[Message] = [{"role": "system", "content": ""}]
    assert chat.render([*empty, *messages]) == chat.render(messages)
    tokens = chat.encode(messages)
    assert [t for t, learnt in zip(tokens.ids, tokens.learnt, strict=True) if learnt] == chat.tokenizer.convert_tokens_to_ids(
        ["Y", "es", "</s>"]
    )


def test_bos_is_written_only_for_tokenizers_that_prepend_it() -> None:
    assert adds_bos(tiny.sentencepiece_tokenizer()) and adds_bos(tiny.llama3_tokenizer()) and not adds_bos(tiny.byte_tokenizer())
    assert zephyr_template(with_bos=True) == "{{ bos_token }}" + zephyr_template(with_bos=False)


def test_an_answer_after_a_merge_gets_no_space_that_nobody_wrote() -> None:
    """`[/INST] ` ends in a space that sentencepiece joins with the answer; apart, the answer must not get another."""
    template = tiny.MISTRAL.replace("' [/INST]'", "' [/INST] '")
    for prefix in ("always", "first", "never"):
        chat = ChatFormat(tiny.sentencepiece_tokenizer(prefix=prefix), template)
        _, completion = chat.encode_pair([{"role": "user", "content": "a"}, {"role": "assistant", "content": "the dog"}])
        assert chat.tokenizer.convert_ids_to_tokens(list(completion))[0] == "t"


def test_pair_needs_an_answer() -> None:
    chat = ChatFormat(tiny.byte_tokenizer(), "zephyr")
    with pytest.raises(DataError, match="last turn is not the assistant's"):
        chat.encode_pair([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}])
    with pytest.raises(DataError, match="last turn is not the assistant's"):
        chat.encode_pair([])


def test_letters_that_the_tokenizer_does_not_know_are_no_control_tokens() -> None:
    """Without bytes to fall back on, they become `<unk>`, which is special, and only to be learnt."""
    from transformers import PreTrainedTokenizerFast

    raw = json.loads(tiny.sentencepiece_tokenizer().backend_tokenizer.to_str())
    raw["model"]["byte_fallback"] = False
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    chat = ChatFormat(tokenizer, "zephyr")
    _, completion = chat.encode_pair([{"role": "user", "content": "a"}, {"role": "assistant", "content": "the 😀 dog"}])
    assert chat.tokenizer.convert_ids_to_tokens(list(completion))[-3:] == ["<unk>", "▁dog", "</s>"]


# --- what is refused -----------------------------------------------------------------------------------------


def refuses(tokenizer: Any, template: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        ChatFormat(tokenizer, template)
    assert "\n" not in str(caught.value)


def test_template_without_end_token_is_refused() -> None:
    refuses(tiny.byte_tokenizer(), ALPACA.replace("+ eos_token", ""), "never learn to stop")


def test_template_that_rewrites_earlier_turns_is_refused() -> None:
    rewrites = tiny.CHATML.replace("message['content']", "(message['content'] if loop.last else message['content'][:2])")
    refuses(tiny.byte_tokenizer(), rewrites, "changes earlier turns .*; set `chat_template: zephyr` .* leaves earlier turns as they are$")


def test_template_that_drops_earlier_thinking_refuses_the_dialogues_that_have_it() -> None:
    drops = tiny.CHATML.replace("message['content']", "(message['content'] if loop.last else message['content'].split('</think>')[-1])")
    chat = ChatFormat(tiny.byte_tokenizer(), drops)
    turns: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>b</think>c"}]
    chat.encode(turns)
    with pytest.raises(DataError, match="changes earlier turns"):
        chat.encode([*turns, {"role": "user", "content": "d"}])
    with pytest.raises(DataError, match="changes earlier turns"):
        chat.encode([*turns, {"role": "user", "content": "d"}, {"role": "assistant", "content": "e"}])


def test_template_that_fills_in_empty_thinking_is_refused() -> None:
    fills = tiny.CHATML.replace(
        "message['content']", "('<think></think>' if loop.last and message['role'] == 'assistant' else '') + message['content']"
    )
    refuses(
        tiny.byte_tokenizer(), fills, "writes .* where the assistant says .*; set `chat_template: zephyr` .* whose generation prompt holds"
    )


def test_template_that_loses_part_of_the_answer_refuses_the_dialogue() -> None:
    chat = ChatFormat(tiny.byte_tokenizer(), tiny.CHATML.replace("message['content']", "message['content'].replace('<think>', '')"))
    with pytest.raises(DataError, match=r"turn 1: the chat template writes 'b' where the assistant says '<think>b'"):
        chat.encode([{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>b"}])


@pytest.mark.parametrize("template", [tiny.CHATML, ALPACA], ids=["special header", "plain header"])
def test_template_without_generation_prompt_is_refused(template: str) -> None:
    """Its header would be learnt as part of the answer, or (a special token) as the whole of it."""
    refuses(tiny.byte_tokenizer(), template.split("{% if add_generation_prompt")[0], "generation prompt")


def test_tokenizer_without_eos_is_refused() -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.eos_token = None
    refuses(tokenizer, "zephyr", "no end-of-sequence token")


def test_tokenizer_without_template_is_refused() -> None:
    refuses(tiny.byte_tokenizer(template=None), "tokenizer", "has no chat template")


def test_broken_template_is_refused() -> None:
    refuses(tiny.byte_tokenizer(), "{% for m in messages %}", "cannot be used")
    refuses(tiny.byte_tokenizer(), "{{ bos_token + messages[0]['content'] }}", "cannot be used")


def test_template_with_too_few_or_too_many_bos_is_refused() -> None:
    refuses(
        tiny.sentencepiece_tokenizer(), tiny.MISTRAL.replace("{{ bos_token }}", ""), "does not begin with the beginning-of-sequence token"
    )
    refuses(tiny.sentencepiece_tokenizer(), "{{ bos_token }}" + tiny.MISTRAL, "more beginning-of-sequence tokens")


def test_default_of_several_named_templates_is_taken() -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.chat_template = {"default": tiny.CHATML, "tool_use": "{{ 'tools' }}"}
    assert ChatFormat(tokenizer, "tokenizer").template == tiny.CHATML
    tokenizer.chat_template = {"tool_use": "{{ 'tools' }}"}
    refuses(tokenizer, "tokenizer", "has no chat template")


def test_end_token_that_was_added_as_ordinary_text_still_ends_a_turn() -> None:
    """Some fine-tunes add `<|im_end|>` without marking it special."""
    raw = json.loads(tiny.byte_tokenizer().backend_tokenizer.to_str())
    for token in raw["added_tokens"]:
        token["special"] = token["content"] == "<|endoftext|>"
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(raw)), eos_token="<|endoftext|>")
    chat = ChatFormat(tokenizer, tiny.CHATML)
    assert chat.parts([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])[1] == ("b<|im_end|>", True)
    assert {"<|im_start|>", "<|im_end|>"} <= set(chat.control_tokens)


def test_longer_of_two_control_tokens_ends_a_turn() -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<|im_end|>!", special=True)], special_tokens=True)
    chat = ChatFormat(tokenizer, tiny.CHATML.replace("<|im_end|>", "<|im_end|>!"))
    assert chat.parts([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])[1] == ("b<|im_end|>!", True)


def test_control_token_that_appears_only_after_normalization_is_refused() -> None:
    """A tokenizer that folds full-width letters reads `＜/s＞` as `</s>` where its tokens are matched after folding."""
    from tokenizers import normalizers

    raw = json.loads(tiny.byte_tokenizer().backend_tokenizer.to_str())
    for token in raw["added_tokens"]:
        token["normalized"] = True
    backend = Tokenizer.from_str(json.dumps(raw))
    backend.normalizer = normalizers.NFKC()
    from transformers import PreTrainedTokenizerFast

    chat = ChatFormat(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>"), tiny.CHATML)
    with pytest.raises(DataError, match="control token inside the answer"):
        chat.encode([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\uff1c|im_end|\uff1ec"}])


# --- real text, real tokenizer --------------------------------------------------------------------------------

SMOL = Kind("SmolLM2", lambda: None, "tokenizer", "<|im_end|>")


def smol_tokenizer(shared: Path) -> Any:
    """SmolLM2's tokenizer with its own template."""
    from transformers import PreTrainedTokenizerFast

    folder = shared / "data/models/smollm2_135m"
    meta = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    backend = Tokenizer.from_str(gzip.decompress((folder / "tokenizer.json.gz").read_bytes()).decode("utf-8"))
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>")
    made.chat_template = meta["chat_template"]
    return made


def rows(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def real_dialogues(shared: Path) -> Iterator[list[dict[str, str]]]:
    """Single turns of three instruction sets, and the chosen end of the multi-turn preference pairs."""
    for path in sorted((shared / "data/sft").glob("*.jsonl*")):
        for row in rows(path):
            user = row.get("prompt") or "\n".join(filter(None, (row.get("instruction"), row.get("input"))))
            answer = row.get("output") or row.get("response") or (row.get("instances") or [{}])[0].get("output")
            yield [{"role": "user", "content": user}, {"role": "assistant", "content": answer or ""}]
    roles: dict[str, Role] = {"human": "user", "gpt": "assistant", "system": "system"}
    for row in rows(shared / "data/feedback/dpo_en_demo.jsonl.gz"):
        context = [{"role": roles[m["from"]], "content": m["value"]} for m in row["conversations"]]
        yield [*context, {"role": "assistant", "content": row["chosen"]["value"]}]


@pytest.mark.parametrize("template", ["zephyr", "tokenizer"])
def test_real_dialogues_with_a_real_tokenizer(shared: Path, tmp_path: Path, template: str) -> None:
    chat = ChatFormat(smol_tokenizer(shared), template)
    plain = reload(chat.tokenizer, tmp_path)
    seen = multi = unusable = merged = 0
    for number, raw in enumerate(real_dialogues(shared)):
        # the two templates share the rows: a sixteenth each of the single turns, half of the others
        if number % (16 if len(raw) < 3 else 2) != (template == "zephyr"):
            continue
        try:
            messages = list(parse_dialogue({"messages": raw}).messages)
        except DataError:
            unusable += 1
            continue
        seen += 1
        multi += len(messages) > 3
        if not check(chat, plain, SMOL, messages):
            merged += 1
            assert any(m["role"] == "assistant" and m["content"][0].isspace() for m in messages), messages
    assert seen > 200 and multi > 30
    assert unusable < 20 and merged < seen / 50, (unusable, merged)


def test_real_dialogues_with_tiny_tokenizers(shared: Path, made: tuple[Kind, ChatFormat, Any]) -> None:
    kind, chat, plain = made
    for number, raw in enumerate(real_dialogues(shared)):
        if number % 97 != KINDS.index(kind) or len(json.dumps(raw)) > 6000:
            continue
        try:
            messages = list(parse_dialogue({"messages": raw if kind.system or raw[0]["role"] != "system" else raw[1:]}).messages)
        except DataError:
            continue
        assert check(chat, plain, kind, messages) or any(m["role"] == "assistant" and m["content"][0].isspace() for m in messages)
