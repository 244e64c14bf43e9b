"""The error that a script reports in one line."""


class UserError(Exception):
    """A mistake the user can mend; its text is one line: the file or flag, cause and remedy."""
