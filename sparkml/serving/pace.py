"""How long a batch takes, learnt from those that were answered."""

from __future__ import annotations


class Pace:
    """Seconds of a batch of `n` tokens as `fixed + n * per_token`: least squares over batches, old ones fading.

    Until batches of different sizes were seen, all of the time is taken to go with the tokens.
    """

    _FADE = 0.97
    _FIRST_PER_TOKEN = 1e-4

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """A batch of so many tokens took a worker so long."""
        for name, value in (
            ("_weight", 1.0),
            ("_tokens", float(tokens)),
            ("_seconds", seconds),
            ("_squares", float(tokens) ** 2),
            ("_products", tokens * seconds),
        ):
            setattr(self, name, getattr(self, name) * self._FADE + value)

    def seconds(self, tokens: int) -> float:
        """How long a batch of so many tokens takes."""
        fixed, per_token = self._line()
        return fixed + per_token * tokens

    def tokens_within(self, seconds: float) -> int:
        """How many tokens a batch may hold that takes so long; one at least."""
        fixed, per_token = self._line()
        # Where the fixed part alone is longer, small batches would only add to it.
        return max(1, int(max(seconds - fixed, seconds / 2) / per_token))

    def _line(self) -> tuple[float, float]:
        if not self._tokens:
            return 0.0, self._FIRST_PER_TOKEN
        even = self._seconds / self._tokens
        spread = self._weight * self._squares - self._tokens**2
        if spread <= 1e-3 * self._tokens**2:
            return 0.0, even
        slope = (self._weight * self._products - self._tokens * self._seconds) / spread
        slope = min(max(slope, 0.05 * even), even)
        return max(0.0, (self._seconds - slope * self._tokens) / self._weight), slope
