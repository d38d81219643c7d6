"""Masks secrets in texts and in nested values: by what a name says, and by the secrets that are known.

A secret is masked whole. The first three letters of a token say who issued it, those of a password shorten the
search for the rest, and those of a short one are most of it; who needs to know which secret was meant has its name.

The standard library alone, so that the program that filters a log starts in milliseconds.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

MASK: Final = "***"
# Shorter ones are not masked by value: "dev" or "1234" stands in every second line, and a mask there says that it is
# the secret. They are still masked beside a name that says so.
MIN_SECRET_LENGTH: Final = 8
# Nor are these: our own records consist of them, and are read again by those names.
_EVERYDAY = frozenset({"cvntrade", "postgres", "postgresql", "password", "localhost", "127.0.0.1", "username"})

# Anywhere in a name, unless it ends with one of `_POINTERS`; the first ones at the end of a word too: PGPASSWORD.
_ENDINGS = ("password", "passwd", "passphrase", "secret", "secrets", "token", "tokens", "credential", "credentials")
_STRONG = frozenset({"passwords", "apikey", "apikeys", "secretkey", "accesskey", "privatekey"})
# Only at the end of a name, and not alone.
_WEAK = frozenset({"key", "keys", "pass", "pwd", "auth"})
_ALONE = frozenset({"authorization", "cookie"})
# fmt: off
# SECRET_NAME and TOKEN_FILE say where a secret is, TokenError what went wrong with one.
_POINTERS = frozenset({
    "file", "path", "dir", "folder", "name", "names", "ref", "refs", "id", "type", "kind", "url", "uri", "host", "port",
    "length", "count", "limit", "policy", "expiry", "expires", "ttl", "timeout", "lifetime", "loader", "data", "error",
    "exception", "warning",
})
# max_tokens is a number of them, is_secret a yes or no.
_ABOUT = frozenset({"max", "min", "num", "n", "total", "is", "has"})
# What may follow: API_KEY_2, PRIVATE_KEY_PEM, SIGNING_KEY_PROD.
_TRAILING = frozenset({
    "value", "text", "raw", "base64", "b64", "pem", "old", "new", "current", "previous", "prod", "staging", "dev",
    "test", "live", "ro", "rw",
})
# Keys that unlock nothing: Dagster's (a test holds this against every field that it stores) and ours.
_PLAIN_KEYS = frozenset({
    "asset", "assets", "check", "run", "step", "steps", "partition", "partitions", "by", "using", "entity", "resource",
    "tag", "type", "param", "file", "log", "manager", "mapping", "schema", "config", "root", "child", "parent", "state",
    "version", "node", "op", "job", "sort", "group", "cache", "dict", "input", "output", "index", "primary", "foreign",
    "unique", "dedup", "idempotency", "concurrency", "pool", "dataset", "settings", "setting", "hyperparameter",
    "metadata", "selected", "unknown", "used", "missing",
})
# fmt: on
# Under these a serialized record says of which class it is.
_KINDS = ("__class__", "__enum__")
# Dagster reads these back: in what bears such a name only known secrets are masked.
_SYSTEM = ("dagster/", ".dagster/", "dagster-k8s/")

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ADDRESS = re.compile(r"//[^\s\"'<>`]*")
# A value: quoted (the quotes may be escaped, in JSON inside JSON), a list, a mapping, or up to the next space.
_VALUE = (
    r"(?:(?P<quote>\\*[\"'])(?P<quoted>.*?)(?P=quote)"
    r"|(?P<plain>\[[^\]]*\]|\{[^}]*\}|(?:(?:bearer|basic)\s+)?[^\s\"'&<>)}\]\[{(][^\s\"'&<>)}\]]*))"
)
# name=value, "name": "value", name: value. The name begins where a word does, so that the time stays linear.
_ASSIGNED = re.compile(
    r"(?<![\w.\-])(?P<name>(?:(?:api|access|secret|private)\s)?[A-Za-z_][\w.\-]{0,79})"
    r"(?P<between>\\*[\"']?\]?[ \t]*(?:=>|:=|[=:])[ \t]*)" + _VALUE,
    re.IGNORECASE | re.DOTALL,
)
_OPTION = re.compile(r"(?<!\S)--?(?P<name>[A-Za-z][\w\-]{0,79})(?P<between>\s+)(?!-)" + _VALUE)
_BEARER = re.compile(r"(?P<name>\bbearer)(?P<between>\s+)(?P<plain>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
# Every name of a secret holds one of these.
_HINTS = ("key", "pass", "secret", "token", "credential", "webhook", "pwd", "auth", "cookie", "bearer ", "cvn_alert")
# Names of two words.
_PHRASES = ("api key", "access key", "secret key", "private key", "bearer ")
_NAME_LENGTH = 80
_NAME_REST = re.compile(r"[\w.\-]{0,80}")
_HARMLESS = re.compile(r"\*+|none|null|true|false|", re.IGNORECASE)
# A run of letters and digits mixed, as in tokens and keys; words, numbers, dates and addresses have none.
_MIXED = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{16,}")
# Pairs that stand for a named value: tags and parameters.
_PAIRS = (("key", "value"), ("name", "value"))


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what bears this name is a secret: `API_KEY`, `my-token`, but not `asset_key`, `monkey` or `KEY_FILE`."""
    words = [word.lower() for word in _WORD.findall(name)]
    if "webhook" in words or _is_alert_address(words):
        # Who knows such an address may post to it.
        return True
    if not words or words[-1] in _POINTERS or words[0] in _ABOUT:
        return False
    if any(word in _STRONG or word.endswith(_ENDINGS) for word in words):
        return True
    while words and (words[-1] in _TRAILING or words[-1].isdecimal()):
        words.pop()
    if not words or words[-1] not in _WEAK:
        return bool(words) and words[-1] in _ALONE
    return len(words) > 1 and words[-2] not in _PLAIN_KEYS


def _is_alert_address(words: Sequence[str]) -> bool:
    """Whether a name is that of an Apprise address, CVN_ALERT_SLACK_URL: its tokens stand anywhere in it."""
    return words[:2] == ["cvn", "alert"] and words[-1] == "url"


def without_credentials(text: str) -> str:
    """The text with what stands before the last @ of an address blotted out."""
    return _ADDRESS.sub(_without_user, text) if "//" in text and "@" in text else text


def _without_user(address: re.Match[str]) -> str:
    _, at, rest = address[0].rpartition("@")
    return f"//{MASK}@{rest}" if at else address[0]


def public_address(address: str) -> str:
    """One address without its user and password, as anybody may follow it."""
    return re.sub(r"//.*@", "//", address, flags=re.DOTALL)


def looks_like_credential(text: str) -> bool:
    """Whether a single value looks like a key or a token: no spaces, and a long run of letters mixed with digits.

    Folders and addresses may well have such a name in them.
    """
    return not re.search(r"\s|^/|://", text) and bool(_MIXED.search(text))


def shown(text: str) -> str:
    """A single value as an error message may repeat it: never when it looks like a credential or carries one."""
    if "//" in text and "@" in text:
        # One value, to its end: a password that was not escaped may hold anything.
        return re.sub(r"//.*@", f"//{MASK}@", text, flags=re.DOTALL)
    return MASK if looks_like_credential(text) else _by_name(text)


def known_secrets(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name of the variable, secret) of every secret in an environment: by its name, or inside an address.

    Too short ones are among them; see `is_maskable`.
    """
    for name, text in environment.items():
        if is_secret_name(name) and not _HARMLESS.fullmatch(text.strip()):
            yield name, text
            if _is_alert_address([word.lower() for word in _WORD.findall(name)]):
                yield from ((name, part) for part in _address_parts(text.strip()))
        if "//" in text:
            yield from ((name, secret) for secret in _in_address(text) if secret)


def is_maskable(secret: str) -> bool:
    """Whether a secret can be masked wherever its value stands, and not only beside its name."""
    return len(secret.strip()) >= MIN_SECRET_LENGTH and secret.strip().lower() not in _EVERYDAY


def unmaskable(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the variables whose secret is too short, or too common a word, to be masked by its value."""
    return tuple(sorted({name for name, secret in known_secrets(environment) if not is_maskable(secret)}))


class Mask:
    """Replaces secrets by `***` in texts and nested values.

    Args:
        secrets: The known ones. Those that are not `is_maskable` are left out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret: frozenset(filter(is_maskable, _forms(secret))) for secret in secrets}
        self._forms_of = {secret: forms for secret, forms in found.items() if forms}
        # The longest first: one secret may begin with another.
        self._forms = sorted({form for forms in found.values() for form in forms}, key=lambda form: (-len(form), form))

    @property
    def longest(self) -> int:
        """Length of the longest form of a secret, 0 when none is known."""
        return len(self._forms[0]) if self._forms else 0

    def text(self, text: str) -> str:
        """The text without known secrets, credentials in addresses, and what follows the name of a secret."""
        return _by_name(self._known(text))

    def _known(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return without_credentials(text)

    def narrowed(self, text: str) -> "Mask | None":
        """The mask that is enough for the values of this JSON text; None when nothing in it has to be masked.

        Quick, because most texts hold nothing: looking for forty secrets in each of a hundred values takes long.
        """
        present = [secret for secret, forms in self._forms_of.items() if any(form in text for form in forms)]
        if not present and without_credentials(text) == text and not _may_name(text):
            return None
        return Mask(present)

    def value(self, value: Any, name: str = "") -> Any:
        """The value with every text in it masked, at any depth; the same types, and equal where nothing was secret.

        Args:
            value: Texts, bytes, numbers, mappings, lists, tuples and sets; anything else is returned as it is.
            name: What the value is called; under the name of a secret all of it is one.
        """
        return self._value(value, is_secret=is_secret_name(name))

    def _value(self, value: Any, *, is_secret: bool) -> Any:
        """Mask a value; all of it, when it `is_secret`."""
        if isinstance(value, str):
            return MASK if is_secret and not _HARMLESS.fullmatch(value) else self.text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, is_secret=is_secret)
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(self._value(item, is_secret=is_secret) for item in value)
        if isinstance(value, bytes):
            return self._bytes(value, is_secret=is_secret)
        return MASK if is_secret and isinstance(value, int | float) and not isinstance(value, bool) else value

    def _bytes(self, value: bytes, *, is_secret: bool) -> bytes:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            # A picture or a model: what looks like an address in it is none, and a change would ruin it.
            return MASK.encode() if is_secret else value
        return str(self._value(text, is_secret=is_secret)).encode()

    def _mapping(self, value: Mapping[Any, Any], *, is_secret: bool) -> dict[Any, Any]:
        if is_secret and set(value) == {"env"}:
            # The name of the variable that holds the secret, which is how a configuration should say it.
            return dict(value)
        named = {of for name, of in _PAIRS if of in value and is_secret_name(str(value.get(name)))}
        # One of Dagster's records: its keys are the names of fields, never anybody's text.
        is_record = "__class__" in value
        masked: dict[Any, Any] = {}
        for key, item in value.items():
            name = str(key)
            if name.startswith(_SYSTEM) and isinstance(item, str):
                masked[key] = self._known(item)
            elif name in _KINDS or (is_secret and name.startswith("__")):
                # What kind of record this is: without it nothing reads it again.
                masked[key] = item
            else:
                inside = is_secret or key in named or is_secret_name(name)
                plain = is_record or not isinstance(key, str)
                masked[key if plain else self._known(key)] = self._value(item, is_secret=inside)
        return masked


def _by_name(text: str) -> str:
    if not _may_name(text):
        return text
    for pattern in (_ASSIGNED, _OPTION, _BEARER):
        text = pattern.sub(_blot, text)
    return text


def _may_name(text: str) -> bool:
    """Whether the name of a secret stands in the text; looks only where it must, most texts hold none."""
    lowered = text.lower()
    hints = [hint for hint in _HINTS if hint in lowered]
    if not hints:
        return False
    return any(phrase in lowered for phrase in _PHRASES) or any(
        is_secret_name(_name_around(text, at)) for hint in hints for at in _places(lowered, hint)
    )


def _places(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


def _name_around(text: str, at: int) -> str:
    start = at
    while start > 0 and at - start < _NAME_LENGTH and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
        start -= 1
    rest = _NAME_REST.match(text, at)
    assert rest is not None, "it may be empty"
    return text[start : rest.end()]


def _blot(found: re.Match[str]) -> str:
    """What was found, its value replaced when its name says that it is a secret."""
    part = "quoted" if found.groupdict().get("quote") else "plain"
    # What ends a part of a sentence is not the value's.
    secret = found[part] if part == "quoted" else found[part].rstrip(",;")
    if _HARMLESS.fullmatch(secret):
        return found[0]
    is_secret = found["name"].lower() == "bearer" or is_secret_name(found["name"])
    # What is none may hold names of its own: `error: password=…`.
    hidden = MASK if is_secret else _by_name(secret)
    whole, start = found[0], found.start(part) - found.start()
    return whole[:start] + hidden + whole[start + len(secret) :]


def _forms(secret: str) -> Iterator[str]:
    """A secret as it may stand in an address, in JSON, in JSON inside JSON, in Python's notation or in a page."""
    yield secret
    lines = secret.split("\n")
    if len(lines) > 1:
        # A log shows a private key line by line; what frames it is no secret.
        yield from (line for line in lines if not line.startswith("-----"))
    stripped = secret.strip()
    escaped = json.dumps(stripped)[1:-1]
    yield from (stripped, quote(stripped), quote(stripped, safe=""), quote_plus(stripped), unquote(stripped))
    yield from (escaped, json.dumps(escaped)[1:-1], json.dumps(stripped, ensure_ascii=False)[1:-1])
    yield from (repr(stripped)[1:-1], repr(stripped.encode())[2:-1], html.escape(stripped))
    yield from _in_base64(stripped.encode())


def _in_base64(secret: bytes) -> Iterator[str]:
    """A secret alone, and as what every longer text that holds it has of it: three bytes give four letters."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode()
        for before in range(3):
            letters = encode(bytes(before) + secret).decode()
            yield letters[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]


def _address_parts(address: str) -> Iterator[str]:
    """What an error may repeat of an address that is a secret as a whole: its path, and the tokens in it."""
    host, slash, path = address.partition("://")[2].partition("?")[0].partition("/")
    tokens = filter(looks_like_credential, re.split(r"[/:@?&=,]", address))
    yield from filter(is_maskable, (slash + path, host + slash + path, *tokens))


def _in_address(text: str) -> Iterator[str]:
    """The secrets inside addresses: password, or user where there is none, and parameters whose name says so."""
    found = {*re.findall(r"//(\S*)@", text), *re.findall(r"//([^\s/@]*)@", text)}
    for credentials in found:
        user, colon, password = credentials.partition(":")
        yield from (password, unquote(password)) if colon else (user, unquote(user))
        if colon:
            yield base64.b64encode(unquote(credentials).encode()).decode()
    yield from (secret for name, secret in re.findall(r"[?&;]([\w.\-]+)=([^&;#\s]+)", text) if is_secret_name(name))
