"""What an object store's errors mean for a unit, and what a person can do about them.

Codes: Amazon S3 API reference, error responses; other stores use the same, and some of their own.
"""

from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError, PartialCredentialsError, SSLError

from eo_tasks.errors import EOTasksError, StorageError, StorageFullError, StoreUnavailableError

MISSING = ("404", "NoSuchKey", "NotFound")
FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage")
PASSES = ("RequestTimeout", "SlowDown", "ThrottlingException", "TooManyRequests", "RequestTimeTooSkewed")
REMEDIES = {
    "NoSuchBucket": "There is no such bucket: make it, or check DATA_DIR",
    "InvalidAccessKeyId": "It does not know AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "InvalidToken": "AWS_SESSION_TOKEN is not valid",
    "ExpiredToken": "The session has ended: log in again, or set another AWS_SESSION_TOKEN",
    "PermanentRedirect": "The bucket lies in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "The bucket lies in another region: set AWS_REGION",
    "AccessDenied": "This login may not do that; it needs to list, get, put and delete objects",
    "403": "This login may not do that; it needs to list, get, put and delete objects",
}


def is_missing(error: ClientError) -> bool:
    """Whether there is no such object."""
    return code_of(error) in MISSING


def code_of(error: ClientError) -> str:
    """What went wrong, in S3's word; a HEAD request has its status only."""
    return str(error.response.get("Error", {}).get("Code", ""))


def told(where: str, doing: str, error: BaseException) -> EOTasksError:
    """A failure of the object store as an error of ours.

    Args:
        where: The bucket, without login.
        doing: What was asked of it.
        error: botocore's.
    """
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StorageError(
            f"{where}: no login. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile with AWS_PROFILE."
        )
    if isinstance(error, NoRegionError):
        return StorageError(f"{where}: no region. Set AWS_REGION.")
    if isinstance(error, SSLError):
        return StorageError(f"{where} has a certificate that is not trusted ({_line(error)}). Set AWS_CA_BUNDLE.")
    if not isinstance(error, ClientError):
        return StoreUnavailableError(f"{where} does not answer ({_line(error)}). Start it, or check AWS_ENDPOINT_URL.")
    code, status = code_of(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in FULL or status == 507:
        return StorageFullError(f"{where}: is full ({code}). Make room; it is tried again by itself.")
    if code in PASSES or status >= 500 or status == 429:
        return StoreUnavailableError(f"{where}: cannot {doing} now ({code or status}).")
    remedy = REMEDIES.get(code) or f"It said: {_line(error)}"
    return StorageError(f"{where}: cannot {doing} ({code or status}). {remedy.rstrip('.')}.")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
