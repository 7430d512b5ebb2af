"""The one exception that means: the user asked for something that cannot be."""


class UserError(Exception):
    """A mistake that its maker can mend: told in one or two sentences, without a traceback, exit status 2."""
