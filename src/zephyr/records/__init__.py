"""The nouns: what one row is, at every arrow of the path.

A row read from outside becomes one of these or raises `DataError`; past that point it is trusted.
Nothing is coerced: a number where a text belongs is an error, not a text.
"""

from __future__ import annotations

from zephyr.records.base import ROLES as ROLES
from zephyr.records.base import Message as Message
from zephyr.records.base import Role as Role
from zephyr.records.base import Row as Row
from zephyr.records.base import content_id as content_id
from zephyr.records.base import prompt_id_of as prompt_id_of
from zephyr.records.base import seeded_unit as seeded_unit
from zephyr.records.dialogues import UNHEEDED as UNHEEDED
from zephyr.records.dialogues import Dialogue as Dialogue
from zephyr.records.dialogues import Prompt as Prompt
from zephyr.records.dialogues import first_user as first_user
from zephyr.records.dialogues import parse_dialogue as parse_dialogue
from zephyr.records.dialogues import parse_messages as parse_messages
from zephyr.records.dialogues import parse_prompt as parse_prompt
from zephyr.records.preferences import Lineage as Lineage
from zephyr.records.preferences import Preference as Preference
from zephyr.records.preferences import parse_feedback as parse_feedback
from zephyr.records.preferences import parse_preference as parse_preference
from zephyr.records.ratings import ASPECTS as ASPECTS
from zephyr.records.ratings import Completion as Completion
from zephyr.records.ratings import RatedPrompt as RatedPrompt
from zephyr.records.ratings import Rating as Rating
from zephyr.records.ratings import parse_rated_prompt as parse_rated_prompt
from zephyr.records.ratings import parse_rating as parse_rating
