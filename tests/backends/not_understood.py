"""The refusal of those that say for a test, in other words, what a backend said: they leave nothing out."""


class NotUnderstoodError(Exception):
    """Something was said that there are no words for here; the message says what, and where."""
