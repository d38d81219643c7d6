"""Whether a webserver answers, asked without a library that takes long to import."""

from base64 import b64encode
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import unquote, urlsplit

_SOON_SECONDS = 0.5


def answers(url: str) -> bool:
    """Whether Dagster's webserver answers at all, soon.

    Args:
        url: Its address, with user and password where it asks for them.
    """
    parts = urlsplit(url)
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_SOON_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/server_info", headers=headers)
        return 200 <= connection.getresponse().status < 300
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
