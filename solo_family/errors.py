"""Errors that a user can cause, and fix: one line that names the key or file and what to do."""


class SoloFamilyError(Exception):
    """Something that the user gave is wrong. The message is complete; a traceback adds nothing."""


class ConfigError(SoloFamilyError):
    """A configuration key has a value that can't work."""


class DataError(SoloFamilyError):
    """A file that the user named is missing, unreadable, or not what it should be."""


class TrainingError(SoloFamilyError):
    """A training run can't go on."""


class OutOfMemoryError(SoloFamilyError):
    """The machine's memory does not suffice for what was asked for."""


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, or its type, for use within one of ours."""
    return (str(error) or type(error).__name__).splitlines()[0]
