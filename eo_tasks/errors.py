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


class SourceBusyError(SourceUnavailableError):
    """The imagery source has no free place now: the same request is made later, and that is no failure.

    Attributes:
        retry_after_s: When it said that it may be asked again; ``None`` if it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AccountError(SourceError):
    """The account cannot be used: the login is refused, or the collection is not there. No request will do better."""


class CreditsExhaustedError(AccountError):
    """The account at the imagery source has no credits left; someone has to top it up."""


class NoSuchJobError(SourceUnavailableError):
    """The source does not know the job (any more)."""


class ResultGoneError(SourceUnavailableError):
    """A finished job has no file, or its file is gone: it has to be computed again."""


class JobFailedError(SourceError):
    """A job failed at the source; a smaller one may do."""


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


class StoreUnavailableError(TransientError):
    """The database does not answer, broke the connection off, or has no connection free."""


class LeaseLostError(TransientError):
    """Another worker has the unit by now: this one's result must not be published."""


class BrokerError(TransientError):
    """Redis does not answer."""
