"""The errors of this package, both one line that a user can act on."""


class RecordError(ValueError):
    """Unknown or invalid data: one line naming the run, field or row, what is wrong and what is allowed."""


class TrackingError(RuntimeError):
    """The place where records lie does not answer, or is no such place: one line saying which and why."""
