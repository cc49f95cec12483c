"""An MLflow server: whether it answers, whether it is one, and which of its errors pass by themselves."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from grandrounds.errors import UserError, one_line

OLDEST = 3  # logged models, which versions and checkpoints point at, came with MLflow 3
DATABASES = ("postgresql", "postgres", "mysql", "mssql")  # schemes of MLflow's own store, beside sqlite
LOOK = 15  # seconds that a first look at a server may take

P = ParamSpec("P")
T = TypeVar("T")


class Away(UserError):
    """The server does not answer now; it may in a minute."""


def shown(uri: str) -> str:
    """The address without user, password, query and fragment, any of which may be a secret."""
    scheme, mark, rest = uri.partition("://")
    if scheme.partition("+")[0] in DATABASES:  # SQLAlchemy takes a password with any sign but @ as it stands
        rest = rest.rpartition("@")[2]
    else:
        rest = re.sub(r"^[^/?#]*@", "", rest)
    return scheme + mark + re.split(r"[?#]", rest, maxsplit=1)[0]


def remote(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def check(uri: str) -> None:
    """One cheap request before the first real one; UserError if what is there is no MLflow server of our kind.

    MLflow's own client would try for minutes, and then show the page of whatever it found.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    head = f"MLflow at {shown(uri)}"
    try:
        reply = http_request(
            get_default_host_creds(uri), "/version", "GET", timeout=LOOK, max_retries=0, raise_on_status=False
        )
    except MlflowException as error:
        slow = "timeout" in str(error).lower() or "timed out" in str(error).lower()
        why = f"no answer in {LOOK} s" if slow else "no connection"
        raise Away(f"{head}: {why}; start it, or unset MLFLOW_TRACKING_URI for the project's own file") from error
    text = one_line(reply.text, 80)
    if reply.status_code >= 500:
        raise Away(f"{head}: answers {reply.status_code} {text!r}; look at its log")
    if reply.status_code in (401, 403):
        raise UserError(
            f"{head}: refuses with {reply.status_code} {text!r}; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or start the server with `--allowed-hosts` that name this address"
        )
    version = re.fullmatch(r"(\d+)\.\d+\.\w+", text)
    if reply.status_code != 200 or not version:
        raise UserError(f"{head}: this is no MLflow server (/version: {reply.status_code}); see MLFLOW_TRACKING_URI")
    if int(version[1]) < OLDEST:
        raise UserError(f"{head}: is MLflow {text}; {OLDEST} or newer is wanted, upgrade the server")


def passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a minute: no connection, a time-out, or an error of the server's own."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() >= 500)
    return isinstance(error, Away | RequestException)


def away(error: BaseException) -> bool:
    """Whether there was no answer at all."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import ConnectionError, Timeout

    unanswered = isinstance(error, MlflowException) and isinstance(error.__context__, ConnectionError | Timeout)
    return unanswered or isinstance(error, Away | ConnectionError | Timeout)


def plain(error: BaseException, uri: str) -> str:
    """The error in one line, without a password, and without the long path that was asked for."""
    text = re.sub(r"API request to \S+ failed with (timeout )?exception ", "", one_line(str(error), 2000))
    return one_line(text.replace(uri, shown(uri)), 300)


def told(error: BaseException, uri: str) -> UserError | None:
    """MLflow's or its connection's error as one line; None if it is neither."""
    if type(error).__module__.split(".")[0] not in ("mlflow", "requests"):
        return None
    text = plain(error, uri)
    return UserError(f"MLflow at {shown(uri)}: {text}; what was written stays, do it again once the server is well")


def asking(address: Callable[[], str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: what the function asks of MLflow fails with one line that names the address."""

    def around(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def asked(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                line = told(error, address())
                if line is None:
                    raise
                raise line from error

        return asked

    return around
