"""The one exception for input that the user can put right."""


class CryoreadyError(Exception):
    """Bad input. The message is one line: what, where, the value, the limit, what to do."""
