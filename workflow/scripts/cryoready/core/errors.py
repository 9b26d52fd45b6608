"""The one exception for input that the user can put right."""


class CryoreadyError(Exception):
    """Bad input. The message is one line: what, where, the value, the limit, what to do."""


class TransientError(CryoreadyError):
    """Not the input is at fault but the network, the disk or the memory: later it may do."""
