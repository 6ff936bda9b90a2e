"""Messages about alerts: to the log, a webhook, a command that sends mail.

A message is about one window. Its key follows from the step and the window: whoever is told twice, because we died
between sending and writing down that we had, sees the same key (header `Idempotency-Key`, `Message-ID` of a mail).
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from sparkml.errors import SparkmlError
from sparkml.log import get_logger

_log = get_logger(__name__)
_TRIES, _FIRST_WAIT, _TIMEOUT = 3, 0.5, 10.0


class UntoldError(SparkmlError):
    """A message could not be sent."""


@dataclass(frozen=True)
class Message:
    """What is said about a window: its key, a line, and the events."""

    key: str
    subject: str
    events: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def as_json(self) -> bytes:
        """The body of a webhook; `text` is what chat programs show."""
        body = {"key": self.key, "text": f"{self.subject}\n{self.lines}", "events": list(self.events)}
        return json.dumps(body, default=str).encode()

    @property
    def lines(self) -> str:
        """One line an event."""
        return "\n".join(_line(event) for event in self.events)


def _line(event: Mapping[str, Any]) -> str:
    return (
        f"{event['state']}: {event['signal']} of {event['slice']}, {event['detail']} "
        f"(value {event['value']:.4g}, limit {event['threshold']:.4g})"
    )


Channel = Callable[[Message], None]


def to_log(message: Message) -> None:
    """A warning."""
    _log.warning("%s: %s", message.subject, message.lines.replace("\n", "; "))


def to_webhook(url: str, token: str | None) -> Channel:
    """POST as JSON. UntoldError after three tries, or at once where the receiver refuses (4xx)."""

    def send(message: Message) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(url, message.as_json(), headers, method="POST")
        for attempt in range(_TRIES):
            try:
                with _opener().open(request, timeout=_TIMEOUT):
                    return
            except urllib.error.HTTPError as error:
                why = f"status {error.code}"
                if error.code < 500 and error.code != 429:
                    break
            except (urllib.error.URLError, OSError) as error:
                why = str(getattr(error, "reason", error))
            if attempt + 1 < _TRIES:
                time.sleep(_FIRST_WAIT * 2**attempt)
        # The URL may hold a secret: the message says only what came back.
        raise UntoldError("the webhook did not take a message", got=why, next_action="repeat the step")

    return send


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes to the place that was configured, nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Never."""


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)


def to_command(command: Sequence[str], sender: str, receivers: Sequence[str]) -> Channel:
    """A mail on the standard input of a command such as `sendmail -t`; UntoldError where it fails."""

    def send(message: Message) -> None:
        mail = EmailMessage()
        mail["Subject"] = message.subject
        mail["From"], mail["To"] = sender, ", ".join(receivers)
        mail["Message-ID"] = f"<{message.key}@sparkml>"
        mail.set_content(message.lines + "\n")
        try:
            done = subprocess.run(list(command), input=mail.as_bytes(), capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UntoldError("the mail command could not run", where=command[0], got=str(error)) from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UntoldError(
                "the mail command failed",
                where=command[0],
                got=f"exit status {done.returncode}: {said[-1] if said else ''}",
            )

    return send
