"""``rheostat init``: write a first configuration, ready to serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail, say_warning

if TYPE_CHECKING:
    from router.cli.litellm_config import Imported

EMBEDDED = """\
# Rheostat on this machine alone: two embedded models, no key, no server.
# Fetch their weights once:  rheostat models fetch qwen2.5-coder-0.5b qwen2.5-coder-1.5b
ledger: sqlite:///rheostat.db
machine: {usd_per_hour: 0.085}        # what this machine costs while a model runs
models:
  - {name: small, model: local/qwen2.5-coder-0.5b}
  - {name: large, model: local/qwen2.5-coder-1.5b}
strategies: [direct, cot, {self_consistency: {samples: 4}}]
budgets:
  - {scope: organisation, limit_usd: 1.00, period: day}
auth: {mode: open}                    # open | keys
"""

UPSTREAM = """\
# Rheostat in front of an OpenAI-compatible provider.
ledger: sqlite:///rheostat.db         # or postgresql+psycopg://user@host/database
models:
  - name: small                       # the name that clients and reports see
    model: openai/small-model         # litellm form
    base_url: http://127.0.0.1:9000/v1
    api_key: ${UPSTREAM_KEY}          # read from the environment
    price: {input_usd_per_million_tokens: 0.10, output_usd_per_million_tokens: 0.40}
  - name: large
    model: openai/large-model
    base_url: http://127.0.0.1:9000/v1
    api_key: ${UPSTREAM_KEY}
    price: {input_usd_per_million_tokens: 2.00, output_usd_per_million_tokens: 8.00}
strategies: [direct, cot, {self_consistency: {samples: 5}}]
budgets:
  - {scope: organisation, limit_usd: 5.00, period: day}
auth: {mode: open}                    # open | keys
"""


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("rheostat.yaml"),
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use the embedded models instead of a provider.")
    ] = False,
    source: Annotated[
        Path | None, typer.Option("--from", help="A LiteLLM proxy's config to take over.")
    ] = None,
) -> None:
    """Write a first configuration file; an existing file is never overwritten."""
    with errors_shown():
        if embedded and source is not None:
            fail("--embedded and --from write different files; give one of them")
        imported = None if source is None else _imported(source)
        text = EMBEDDED if embedded else UPSTREAM if imported is None else imported.text
        try:
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
        except FileExistsError:
            fail(f"{file} is there already; give another name or remove it first")
        except OSError as error:
            fail(f"{file} cannot be written: {error.strerror}; choose another place")
        screen = console()
        if imported is not None:
            for line in imported.unmapped:
                say_warning(f"not mapped: {line}")
            for line in imported.to_do:
                say_warning(f"to do: {line}")
        screen.print(f"wrote {file}. Next:")
        if embedded:
            screen.print("  rheostat models fetch qwen2.5-coder-0.5b qwen2.5-coder-1.5b")
        elif imported is None:
            screen.print("  edit the models, then export UPSTREAM_KEY=...")
        screen.print(f"  rheostat config check --config {file}")
        screen.print(f"  rheostat serve --config {file}")


def _imported(source: Path) -> Imported:
    from router.cli.litellm_config import import_litellm
    from router.gateway.config import read_text

    return import_litellm(read_text(source), str(source))
