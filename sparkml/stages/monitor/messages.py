"""Messages about alerts that nobody was told of yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.frame.effects import effect
from sparkml.frame.ledger import utc_now
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import NOTIFICATIONS
from sparkml.frame.secret import is_reference, secret_at
from sparkml.log import get_logger
from sparkml.monitoring.telling import Channel, Message, UntoldError, to_command, to_log, to_webhook
from sparkml.stages.monitor.config import MonitorConfig

_log = get_logger(__name__)


def send_messages(job: StageRun, config: MonitorConfig) -> int:
    """Send what is to be told on every channel, and write down each that was; returns how many were not."""
    if not job.tables.exists(config.alerts):
        return 0
    channels = _channels(config)
    untold = 0
    for message, done in list(_messages(job, config, channels)):
        for name, channel in channels.items():
            if name in done:
                continue
            try:
                channel(message)
            except UntoldError as error:
                _log.error("%s", error.message())
                untold += 1
                continue
            effect(f"message sent: {name}")
            row: dict[str, object] = {
                "notification_id": f"{message.key}-{name}",
                "step": job.step,
                "message": message.key,
            }
            row |= {"channel": name, "sent_at": utc_now()}
            job.put_rows(config.notifications, [row], "notification_id", NOTIFICATIONS)
    return untold


def _sent(job: StageRun, config: MonitorConfig, channels: Collection[str]) -> DataFrame | None:
    """Messages, and the channels that took them; None where nothing was ever sent."""
    if not job.tables.exists(config.notifications):
        return None
    rows = job.tables.read(config.notifications)
    mine = rows.where((F.col("step") == job.step) & F.col("channel").isin(list(channels)))
    return mine.groupBy("message").agg(F.collect_set("channel").alias("took"))


def _messages(
    job: StageRun, config: MonitorConfig, channels: Collection[str]
) -> Iterator[tuple[Message, set[str]]]:
    """Messages that some channel has not taken yet, and those that have."""
    rows = job.tables.read(config.alerts).where((F.col("step") == job.step) & F.col("message").isNotNull())
    sent = _sent(job, config, channels)
    took = F.col("took") if sent is not None else F.lit(None).cast("array<string>")
    rows = rows if sent is None else rows.join(sent, "message", "left")
    open_ones = rows.withColumn("took", took).where(F.coalesce(F.size("took"), F.lit(0)) < len(channels))
    by_key: dict[str, list[dict[str, Any]]] = {}
    ordered = open_ones.orderBy("window_start", "slice", "signal").drop("run_id")
    for row in ordered.toArrow().to_pylist():
        by_key.setdefault(row["message"], []).append(row)
    for key, events in by_key.items():
        done = set(events[0]["took"] or ())
        told = [{name: value for name, value in event.items() if name != "took"} for event in events]
        states = [event["state"] for event in events]
        said = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        subject = f"sparkml {job.step}: {said} in the window from {events[0]['window_start']}"
        yield Message(key, subject, told), done


def _channels(config: MonitorConfig) -> dict[str, Channel]:
    found: dict[str, Channel] = {"log": to_log}
    hook, mail = config.webhook, config.mail
    if hook.url:
        url = secret_at(hook.url, "the webhook's URL") if is_reference(hook.url) else hook.url
        if not url.startswith(("https://", "http://")):
            raise ConfigError("a webhook needs an URL", expected="https://...")
        token = secret_at(hook.token, "the webhook's token") if hook.token else None
        found["webhook"] = to_webhook(url, token)
    if mail.command:
        found["mail"] = to_command(mail.command, mail.sender, mail.receivers)
    return found
