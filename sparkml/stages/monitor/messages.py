"""Messages about alerts that nobody was told of yet."""

from __future__ import annotations

from collections.abc import Iterator

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
    sent = _sent(job, config)
    untold = 0
    messages = list(_messages(job, config))
    for name, channel in _channels(config).items():
        for message in messages:
            if (message.key, name) in sent:
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


def _sent(job: StageRun, config: MonitorConfig) -> set[tuple[str, str]]:
    if not job.tables.exists(config.notifications):
        return set()
    rows = job.tables.read(config.notifications).where(F.col("step") == job.step)
    return {(row["message"], row["channel"]) for row in rows.select("message", "channel").collect()}


def _messages(job: StageRun, config: MonitorConfig) -> Iterator[Message]:
    rows = job.tables.read(config.alerts).where((F.col("step") == job.step) & F.col("message").isNotNull())
    by_key: dict[str, list[dict[str, object]]] = {}
    for row in rows.orderBy("window_start", "slice", "signal").drop("run_id").toArrow().to_pylist():
        by_key.setdefault(row["message"], []).append(row)
    for key, events in by_key.items():
        states = [str(event["state"]) for event in events]
        said = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        yield Message(
            key, f"sparkml {job.step}: {said} in the window from {events[0]['window_start']}", events
        )


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
