"""The commands `serve` and `label`: words of the command line to a service."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from sparkml.cli import screens
from sparkml.cli.choice import Choice, ConfDir, Env
from sparkml.errors import UsageError
from sparkml.frame.config import DEFAULT_PIPELINE
from sparkml.frame.config_layers import parse_settings, settings_error
from sparkml.log import configure_logging
from sparkml.serving.settings import LabelSettings, ServeSettings

_LAKE = "lake"


def serve(
    words: Annotated[
        list[str],
        typer.Argument(
            help="Models, by name in the lake or by directory, NAME=MODEL for another name; then settings.",
            metavar="MODEL... [KEY=VALUE]...",
        ),
    ],
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on.")] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", help="Lines TOKEN, NAME TOKEN or NAME TOKEN admin.")
    ] = None,
    canary: Annotated[
        list[str] | None,
        typer.Option("--canary", help="NAME=MODEL:SHARE answers a share of the requests for NAME."),
    ] = None,
    shadow: Annotated[
        list[str] | None,
        typer.Option("--shadow", help="NAME=MODEL answers them too, into the table log_table alone."),
    ] = None,
    env: Env = "local",
    conf_dir: ConfDir = None,
    log_level: Annotated[
        str, typer.Option("--log-level", help="DEBUG, INFO, WARNING (no line a request) or ERROR.")
    ] = "INFO",
) -> None:
    """Answer with models over HTTP: POST /v1/score, a page to try them at /, what there is at /docs.

    Needs neither Spark nor Java. A model of the lake without a version (`classifier`) is exchanged for a newer one as
    it appears.
    """
    named = {word.partition("=")[0]: word for word in words if "=" in word}
    lake_words = [named[_LAKE]] if _LAKE in named else []
    models = [word for word in words if not _is_setting(word)]
    if not models:
        raise UsageError(
            "no model is named", expected="sparkml serve MODEL: a directory, or a name in the lake"
        )
    options = {"host": host, "port": port, "token_file": token_file}
    settings = _settings([word for word in words if _is_setting(word) and word not in lake_words], options)
    if shadow and not settings.log_table:
        raise UsageError("a shadow version answers into a table", next_action="name it: log_table=FOLDER")
    from sparkml.serving.pool import prepare

    prepare()
    from sparkml.cli.shelf import LakeShelf
    from sparkml.serving.server import serve as serve_routes
    from sparkml.serving.versions import read_routes, with_versions

    configure_logging(log_level)
    lake = Choice(DEFAULT_PIPELINE, env, conf_dir).load(lake_words).lake
    shelf = LakeShelf(lake)
    routes = with_versions(read_routes(models, shelf), shelf, canaries=canary or (), shadows=shadow or ())
    screens.show_serving(screens.open_console(), [route.told() for route in routes.values()], settings)
    sys.stdout.flush()
    serve_routes(settings, routes, shelf)


def _is_setting(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and (key == _LAKE or key in ServeSettings.model_fields)


def _settings(words: Sequence[str], options: dict[str, Any]) -> ServeSettings:
    given = parse_settings(words) | {name: value for name, value in options.items() if value is not None}
    try:
        return ServeSettings(**given)
    except ValidationError as error:
        raise settings_error("serve", "", list(ServeSettings.model_fields), error) from error


def _in_words(settings: type[BaseModel]) -> str:
    fields = settings.model_fields.items()
    lines = "\n".join(f"- `{name}` ({field.default!r}): {field.description}" for name, field in fields)
    return f"Settings:\n\n{lines}"


serve.__doc__ = f"{serve.__doc__}\n\n{_in_words(ServeSettings)}"


def label(
    words: Annotated[
        list[str] | None, typer.Argument(help="Settings, lake= among them.", metavar="[KEY=VALUE]...")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on.")] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", help="Lines NAME TOKEN; the name stands beside each label.")
    ] = None,
    env: Env = "local",
    conf_dir: ConfDir = None,
    log_level: Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Let people label rows of a queue in the browser: what the stage monitor found uncertain or unlike the reference.

    Needs neither Spark nor Java. Labels come into a table that the stage finetune takes as its source.
    """
    from sparkml.cli.shelf import folder_table
    from sparkml.serving.labelling import label as serve_queue

    given = list(words or ())
    lake_words = [word for word in given if word.startswith(f"{_LAKE}=")]
    options = {"host": host, "port": port, "token_file": token_file}
    named = parse_settings([word for word in given if word not in lake_words])
    named |= {name: value for name, value in options.items() if value is not None}
    try:
        settings = LabelSettings(**named)
    except ValidationError as error:
        raise settings_error("label", "", list(LabelSettings.model_fields), error) from error
    configure_logging(log_level)
    lake = Choice(DEFAULT_PIPELINE, env, conf_dir).load(lake_words).lake
    queue, labels = (folder_table(lake, ref) for ref in (settings.queue, settings.labels))
    print(f"labelling {settings.queue} at http://{settings.host}:{settings.port}", flush=True)
    serve_queue(settings, queue, labels)


label.__doc__ = f"{label.__doc__}\n\n{_in_words(LabelSettings)}"
