"""What a prompt is about, where the data has no column that says so: the topic most of its words belong to.

A word belongs to a topic if it is in that topic's list below, in the singular or with an `s`. The topic with the most words in the
prompt is its topic; of several with as many, the one that is listed first. A prompt without any is `other`. It is crude, and enough for
what it is for: that a selection has some of everything.
"""

from __future__ import annotations

import functools

import numpy as np

from zephyr.curation.hashing import Ints, Words

OTHER = "other"
_WORDS = {
    "code": "code python java javascript html css sql function program programming script bug compile api json regex algorithm array loop "
    "variable class database query software developer linux git server debug react node library",
    "mathematics": "calculate equation solve integral derivative algebra geometry probability matrix sum number fraction triangle theorem "
    "proof polynomial arithmetic percent",
    "science": "physics chemistry biology atom molecule cell energy gravity quantum planet star species evolution gene dna experiment "
    "scientist theory particle reaction universe galaxy light wave",
    "health": "health doctor disease symptom diet exercise sleep medicine patient therapy vitamin pain blood heart mental anxiety stress "
    "cancer workout nutrition hospital nurse",
    "food": "recipe cook cooking bake food dish ingredient meal restaurant kitchen vegetarian vegan flavour flavor sauce chicken bread "
    "cake wine coffee dinner breakfast",
    "travel": "travel trip itinerary visit tourist hotel flight vacation holiday destination beach hike hiking museum airport journey tour",
    "history": "history historical century war empire king queen ancient revolution medieval dynasty civilization treaty battle emperor",
    "society": "government political policy president election vote democracy rights immigration tax congress parliament gender race "
    "inequality religion religious church culture cultural community",
    "law": "law legal contract court lawyer attorney patent copyright lawsuit judge crime criminal liability clause regulation",
    "business": "business company market marketing customer brand sales startup product strategy revenue profit management employee "
    "invest investment stock finance bank budget economy seo advertising entrepreneur",
    "work": "job resume interview career cover letter manager salary hiring recruiter colleague workplace skill",
    "education": "student teacher school university college lesson classroom course exam essay homework learn learning teach curriculum",
    "technology": "computer internet phone app website robot ai artificial machine data device network security blockchain cloud digital "
    "technology wireless",
    "nature": "climate environment environmental forest ocean animal bird dog cat fish plant tree garden weather river wildlife pollution "
    "recycling carbon",
    "arts": "music song art painting artist film movie theatre theater dance guitar piano album band photography museum actor director "
    "design lyrics",
    "stories": "story novel character poem poetry fiction scene chapter write dialogue plot fantasy protagonist narrative haiku rhyme "
    "fairy screenplay",
    "language": "translate translation grammar sentence spanish french german chinese japanese english word synonym vocabulary rewrite "
    "paraphrase summarize summarise proofread paragraph",
    "sport": "football soccer basketball tennis team player game match championship olympic coach league athlete golf baseball running",
    "home": "house home family child parent baby wedding gift clean furniture room decorate craft diy sew knit paint car pet",
    "people": "friend relationship love feel feeling advice girlfriend boyfriend husband wife marriage conversation social personality",
}
TOPICS = (*_WORDS, OTHER)


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """(hashes of words, sorted; the number of the topic of each); a word that several topics list belongs to the first."""
    of: dict[bytes, int] = {}
    for i, listed in enumerate(_WORDS.values()):
        for word in listed.split():
            of.setdefault(word.encode(), i)
            of.setdefault(word.encode() + b"s", i)
    hashes = Words.of(list(of)).hashes
    order = np.argsort(hashes)
    return hashes[order], np.array(list(of.values()))[order]


def topics_of(prompts: Words, count: int) -> Ints:
    """The number of the topic, in `TOPICS`, of each of `count` prompts."""
    known, topics = _table()
    at = np.searchsorted(known, prompts.hashes)
    at[at == len(known)] = 0
    hit = known[at] == prompts.hashes
    cells = prompts.texts[hit] * len(TOPICS) + topics[at[hit]]
    counts = np.bincount(cells, minlength=count * len(TOPICS)).reshape(count, len(TOPICS))
    found: Ints = np.where(counts.any(axis=1), counts.argmax(axis=1), len(TOPICS) - 1)
    return found
