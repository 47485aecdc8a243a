"""The one kind of error that a user can cause."""


class InputError(Exception):
    """Bad input: one line that says what was expected and what was found."""
