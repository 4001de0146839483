"""What a user can get wrong, as opposed to a bug."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """
