"""The two kinds of failure, and how both are told to a person.

A step raises; it never returns ``False`` or ``None`` for a failure. Every message says what happened, to which
cell and year, and what to do.
"""


class EOTasksError(Exception):
    """Base of every error this project raises on purpose."""


class TransientError(EOTasksError):
    """May go away by itself (network, a busy service): the unit is tried again with backoff."""


class PermanentError(EOTasksError):
    """Will not go away by itself: the unit is recorded as failed and left to a person."""


class SettingsError(PermanentError):
    """An environment variable or setting has a value that cannot be used."""


class GridError(PermanentError):
    """The grid file, a selection of its cells, or a border cannot be used."""


class RasterError(PermanentError):
    """A raster file is missing, broken or on another pixel grid than expected."""


class SourceError(PermanentError):
    """The imagery source refused the request or answered with something unusable."""


class SourceUnavailableError(TransientError):
    """The imagery source did not answer, or asked to come back later."""


class EmptyCompositeError(PermanentError):
    """No clear observation exists for the grid-year."""


class StorageError(PermanentError):
    """The store refused or holds something that is not what it should be."""


class CheckpointError(PermanentError):
    """The BTC checkpoint is missing, truncated, or of another network."""


class InferenceError(PermanentError):
    """The network gave an answer that means nothing."""


class DeviceError(TransientError):
    """The GPU failed, and with it whatever this process has on it."""


class StorageFullError(TransientError):
    """The disk is full; someone has to make room, and nothing is lost until then."""


class LeaseLostError(TransientError):
    """Another worker has the unit by now: this one's result must not be published."""


class BrokerError(TransientError):
    """Redis does not answer."""
