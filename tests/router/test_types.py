"""What a task tells of the request behind it."""

from __future__ import annotations

from policies.posing import PLAIN, Posing
from policies.types import AnswerKind
from router.types import Message, Task

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def test_one_question_is_posed_plainly() -> None:
    """As in a file of questions."""
    assert Task((Message("user", "2 + 2?"),)).posing == PLAIN


def test_a_conversation_tells_what_came_before_and_with_it() -> None:
    """Counts alone, no text of earlier turns."""
    task = Task(
        (
            Message("system", "Be brief."),
            Message("user", "Weather?"),
            Message("assistant", "Where?"),
            Message("user", [{"type": "text", "text": "here"}, IMAGE]),
        ),
        AnswerKind.JSON,
        kind_is_declared=True,
        extra={"tools": [{"type": "function"}], "response_format": {"type": "json_schema"}},
    )
    assert task.posing == Posing(
        AnswerKind.JSON,
        turns=2,
        earlier_chars=14,
        system_chars=9,
        tools=1,
        images=1,
        schemas=1,
    )


def test_a_tool_result_after_the_question_is_no_earlier_turn() -> None:
    """The last user message is the query, wherever the conversation stands."""
    messages = (Message("user", "Weather?"), Message("assistant", ""), Message("tool", "rain"))
    assert Task(messages).posing == PLAIN
