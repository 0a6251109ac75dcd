"""Requests made up from the OpenAPI document: no 5xx, and no answer that it does not describe."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from scripted_engine import ScriptedEngine

from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.dialects.messages_body import MessagesBody
from router.gateway.dialects.responses_body import ResponsesBody
from router.gateway.embeddings import EmbeddingsBody
from router.gateway.schemas import ChatBody, Feedback
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = os.environ.get("RHEOSTAT_FUZZ_EXAMPLES", "10")
"""Requests made up for each operation; `make fuzz` asks for more."""

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


def test_made_up_requests_are_answered_as_the_document_says(tmp_path: Path) -> None:
    """Valid bodies and broken ones, over real HTTP."""
    engine = ScriptedEngine(embedding_names=("embed-small",))
    with serving(create_app(engine, GatewaySettings())) as base_url:
        done = subprocess.run(  # noqa: S603 - this interpreter, with fixed arguments
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{base_url}/openapi.json"),
                *("--checks", CHECKS),
                *("--max-examples", EXAMPLES),
                *("--phases", "examples,fuzzing"),
                "--generation-deterministic",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    assert "11 selected / 11 total" in done.stdout


def test_examples_of_the_document_are_valid_bodies() -> None:
    """What a reader copies is accepted."""
    for shape in (ChatBody, EmbeddingsBody, Feedback, MessagesBody, ResponsesBody):
        for example in shape.model_json_schema()["examples"]:
            shape.model_validate(example)
