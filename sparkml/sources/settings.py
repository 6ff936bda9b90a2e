"""What a configuration says of a source: where it lies, and which of its fields mean what."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sparkml.frame.stage import StageConfig
from sparkml.sources.formats.table import AUTO, EMBEDDED, JDBC, KAFKA, FormatName
from sparkml.sources.jdbc import JdbcConfig
from sparkml.sources.kafka import KafkaConfig
from sparkml.sources.records import LabelledFields, ReadOptions


def _as_name(value: object) -> object:
    # `text_field=1` on a command line is a number to YAML and the name of a column to us.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_delimiter(value: object) -> object:
    return "\t" if value in ("\\t", "tab") else value


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"`{pattern}` is no regular expression: {error}") from error
    if groups != 1:
        raise ValueError(f"`{pattern}` has {groups} groups, expected one: what it finds")
    return pattern


FieldName = Annotated[str, BeforeValidator(_as_name), Field(min_length=1)]
PathPattern = Annotated[str, AfterValidator(_one_group)]


class FilesConfig(StageConfig):
    """Which files are read, and which of their fields mean what."""

    path: str | None = Field(
        None, description="File, folder or glob, local or URI; null: the embedded corpus"
    )
    format: FormatName = Field("auto", description="auto: by the extension of each file")
    dataset: str | None = Field(
        None, min_length=1, description="Part of every doc_id; null: the folder's name"
    )
    text_field: FieldName = Field("text", description="Field that holds the document")
    id_field: FieldName | None = Field(
        None, description="Field that holds the doc_id; null: a hash of the place"
    )
    label_field: FieldName | None = Field(None, description="Field that holds the label")
    text_b_field: FieldName | None = Field(
        None, description="Field that holds the second text: of a pair, a translation, a summary"
    )
    tokens_field: FieldName | None = Field(None, description="Field that is a list of tokens")
    tags_field: FieldName | None = Field(None, description="Field that is a list of their tags")
    media_field: FieldName | None = Field(
        None, description="Field that is an image or a sound: bytes, or a struct of bytes and path"
    )
    split_field: FieldName | None = Field(None, description="Field that says train, validation or test")
    label_pattern: PathPattern | None = Field(
        None, description="Regular expression whose group, in the path below the root, is the label"
    )
    split_pattern: PathPattern | None = Field(None, description="The same for the split")
    tag_column: int = Field(-1, description="conll: column of the tag, from 0; -1 is the last")
    header: bool = Field(
        True, description="CSV, TSV: does the first row name the fields? Else they are 0, 1, 2"
    )
    delimiter: Annotated[str, BeforeValidator(_as_delimiter), Field(min_length=1, max_length=1)] | None = (
        Field(None, description="CSV, TSV: null is a comma for CSV and a tab for TSV")
    )
    quote: Annotated[str, Field(max_length=1)] | None = Field(
        None, description='CSV, TSV: null is `"` for CSV and no quoting for TSV; empty is no quoting'
    )

    def read_options(
        self, root: str, dataset: str, *, max_record_bytes: int, batch_bytes: int, max_inflation: int
    ) -> ReadOptions:
        """The same for the tasks that read below `root`."""
        return ReadOptions(
            root=root,
            dataset=dataset,
            text_field=self.text_field,
            id_field=self.id_field,
            label_field=self.label_field,
            header=self.header,
            delimiter=self.delimiter,
            quote=self.quote,
            max_record_bytes=max_record_bytes,
            batch_bytes=batch_bytes,
            max_inflation=max_inflation,
            labelled=LabelledFields(
                text_b=self.text_b_field,
                tokens=self.tokens_field,
                tags=self.tags_field,
                media=self.media_field,
                split=self.split_field,
                label_pattern=self.label_pattern,
                split_pattern=self.split_pattern,
            ),
            tag_column=self.tag_column,
        )


class SourceConfig(FilesConfig):
    """Files as they are now, or a sample of them; a table, a database, a topic; or the embedded corpus."""

    jdbc: JdbcConfig = Field(JdbcConfig(), description="A database: `url`, and `table` or `query`")
    kafka: KafkaConfig = Field(KafkaConfig(), description="A topic: `servers` and `topic`")
    sample_fraction: float = Field(
        1.0, gt=0, le=1, description="Part of the files, chosen by a hash of their path"
    )
    max_files: int | None = Field(
        None, ge=1, description="The most files that are read: those of the lowest hash"
    )

    @model_validator(mode="after")
    def _names_one_place(self) -> SourceConfig:
        given = {"path": self.path, "jdbc.url": self.jdbc.url, "kafka.topic": self.kafka.topic}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(f"only one of {', '.join(named)}")
        needed = {JDBC: "jdbc.url", KAFKA: "kafka.topic"}.get(self.format, "path")
        if self.format not in (AUTO, EMBEDDED) and given[needed] is None:
            raise ValueError(f"format {self.format} needs {'a path' if needed == 'path' else needed}")
        if (self.kafka.topic is None) != (self.kafka.servers is None):
            raise ValueError("kafka.topic and kafka.servers together")
        if self.kafka.id_field is not None:
            raise ValueError("a topic's id_field is the source's own: leave kafka.id_field out")
        if self.tag_column == 0:
            raise ValueError("tag_column 0 is the token's")
        return self

    @property
    def kind(self) -> str:
        """The format, where it says what kind of place this is; of files and `auto` the format that is asked for."""
        if self.format != AUTO:
            return self.format
        if self.jdbc.url is not None:
            return JDBC
        if self.kafka.topic is not None:
            return KAFKA
        return AUTO if self.path is not None else EMBEDDED
