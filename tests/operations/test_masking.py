"""The mask: by what a name says, by the secrets that are known, inside addresses; and what it leaves alone."""

import base64
import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.operations.masking import (
    MASK,
    MIN_SECRET_LENGTH,
    Mask,
    is_maskable,
    is_secret_name,
    known_secrets,
    looks_like_credential,
    public_address,
    shown,
    unmaskable,
    without_credentials,
)

AWKWARD = 'p"a/ss\\w@rd é%40 +<x>'
SECRETS = (
    "API_KEY",
    "api-key",
    "apiKey",
    "APIKey",
    "x-api-key",
    "my-token",
    "TOKEN",
    "SECRET",
    "password",
    "PASSWORD_PROD",
    "PGPASSWORD",
    "CVN_PG_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "client_secret",
    "GITHUB_TOKEN_2",
    "PRIVATE_KEY_PEM",
    "accesskey",
    "SLACK_WEBHOOK_URL",
    "DB_PASS",
    "db_pwd",
    "Authorization",
    "credentials",
    "resources.exchange.api_key",
    "CVN_ALERT_SLACK_URL",
    "CVN_ALERT_SMS_URL",
    "CVN_ALERT_MAIL_URL",
)
HARMLESS = (
    "key",
    "keys",
    "asset_key",
    "partition_key",
    "step_keys",
    "run_key",
    "primary_key",
    "monkey",
    "keyboard",
    "KEY_FILE",
    "SECRET_NAME",
    "secret_key_ref",
    "TOKEN_URL",
    "KeyError",
    "TokenError",
    "tokenizer",
    "max_tokens",
    "is_secret",
    "PWD",
    "OLDPWD",
    "pass",
    "passed",
    "author",
    "bypass",
    "secretary",
    "CVN_CUSUM_THRESHOLD_H",
    "CVN_ALERT_ROUTE_P0",
    "CVN_ALERT_ATTEMPTS",
    "CVN_UI_URL",
    "alert_url",
    "",
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_name_that_says_secret(name: str) -> None:
    assert is_secret_name(name)
    assert Mask([]).value({name: "hunter2"}) == {name: MASK}
    assert Mask([]).value("hunter2", name=name) == MASK
    assert Mask([]).text(f"tried {name}=hunter2 once") == f"tried {name}={MASK} once"


@pytest.mark.parametrize("name", HARMLESS)
def test_a_name_that_does_not(name: str) -> None:
    assert not is_secret_name(name)
    assert Mask([]).value({name: "hunter2"}) == {name: "hunter2"}
    assert Mask([]).text(f"tried {name}=hunter2 once") == f"tried {name}=hunter2 once"


@pytest.mark.parametrize(
    "form",
    [
        AWKWARD,
        quote(AWKWARD),
        quote(AWKWARD, safe=""),
        quote_plus(AWKWARD),
        json.dumps(AWKWARD),
        json.dumps(AWKWARD, ensure_ascii=False),
        json.dumps(json.dumps({"said": AWKWARD})),
        repr(AWKWARD),
        html.escape(AWKWARD),
        repr(AWKWARD.encode()),
        base64.b64encode(AWKWARD.encode()).decode(),
        base64.urlsafe_b64encode(AWKWARD.encode()).decode(),
    ],
)
def test_a_known_secret_in_every_form(form: str) -> None:
    masked = Mask([AWKWARD]).text(f"before {form} after")
    assert MASK in masked and form not in masked and masked.startswith("before ") and masked.endswith(" after")


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("user", ["", "a", "ab", "abc"])
def test_a_known_secret_inside_something_longer_in_base64(user: str, encode: Callable[[bytes], bytes]) -> None:
    """Basic authentication is user:password in base64, and where the password begins shifts every letter."""
    masked = Mask([AWKWARD]).text(encode(f"{user}:{AWKWARD}@host".encode()).decode())
    # What is left is the letters of the rest, and those at the seams that the secret shares with them.
    assert MASK in masked
    assert len(masked.replace(MASK, "").rstrip("=")) <= (len(f"{user}:@host") * 8) // 6 + 3


def test_records_stay_readable_when_a_secret_is_the_name_of_a_field_or_a_class() -> None:
    record = {"__class__": "AssetKey", "partition": {"__enum__": "AssetKey.X"}, "tags": {"partition": "of AssetKey"}}
    kept = Mask(["AssetKey", "partition"]).value(record)
    assert kept == {**record, "tags": {MASK: f"of {MASK}"}}


def test_addresses_are_looked_for_in_linear_time() -> None:
    """Quadratic time would take half a minute and more."""
    text = "/" * 1_000_000
    assert Mask([]).text(text) == text
    assert Mask([]).text(f"{text}@host") == f"//{MASK}@host"


def test_a_secret_is_masked_whole_and_the_longest_first() -> None:
    assert Mask(["abcdefgh", "abcdefgh-and-more"]).text("abcdefgh-and-more, abcdefgh") == f"{MASK}, {MASK}"


def test_a_private_key_in_a_log_line_by_line() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n"
    assert Mask([key]).text("read kqhkiG9w0BAQEF") == f"read {MASK}"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password=hunter2", "password=***"),
        ("password = 'hun ter2', user='me'", "password = '***', user='me'"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": "***", "n": 1}'),
        (r"{\"api_key\": \"abc\", \"n\": 1}", r"{\"api_key\": \"***\", \"n\": 1}"),
        ("{'my-token': 'abc'}", "{'my-token': '***'}"),
        ("error: password=foo", "error: password=***"),
        ("failed: {'db': {'password': 'x y'}}", "failed: {'db': {'password': '***'}}"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("sent Bearer abcdefgh.ijkl", "sent Bearer ***"),
        ("api key: sk-1", "api key: ***"),
        ("run --api-key abc --x 1", "run --api-key *** --x 1"),
        ("https://h/p?token=abc&x=1", "https://h/p?token=***&x=1"),
        ("os.environ['API_KEY']='abc'", "os.environ['API_KEY']='***'"),
        ("credentials={'user': 'x'} end", "credentials=*** end"),
        ("secrets: [abc, def]", "secrets: ***"),
        ("postgresql://me:pw@host/db and more", "postgresql://***@host/db and more"),
        ("https://ghp_123@github.com", "https://***@github.com"),
    ],
)
def test_what_stands_in_a_text(text: str, masked: str) -> None:
    assert Mask([]).text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'CVN_MARKET'",
        "asset_key: foo, step_key=bar",
        "password=None, token: null, secret=''",
        "see http://127.0.0.1:3000/runs/1 or ask me@example.org",
        "the password is missing",
        '{"step_key": "labels", "asset_key": {"path": ["labels"]}}',
        "Authentication failed",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Mask(["something-else"]).text(text) == text
    assert Mask([]).value({"said": [text]}) == {"said": [text]}


def test_values_keep_their_types_and_are_masked_at_any_depth() -> None:
    mask = Mask(["known-value"])
    value = {
        "n": 1,
        "password": 12345,
        "secret": True,
        "token": None,
        "list": [{"key": "api_key", "value": "v"}, {"name": "n", "value": "v"}],
        "tuple": ("a known-value", b"known-value", b"\x89PNG//a@b\xff"),
        "known-value": 1.5,
        "db_password": {"env": "CVN_PG_PASSWORD"},
        "login_secret": {"user": "u", "parts": ["a", 5]},
        "dagster-k8s/config": '{"env_secrets": ["x"], "a": "known-value"}',
    }
    assert mask.value(value) == {
        "n": 1,
        "password": MASK,
        "secret": True,
        "token": None,
        "list": [{"key": "api_key", "value": MASK}, {"name": "n", "value": "v"}],
        "tuple": ("a ***", b"***", b"\x89PNG//a@b\xff"),
        MASK: 1.5,
        "db_password": {"env": "CVN_PG_PASSWORD"},
        "login_secret": {"user": MASK, "parts": [MASK, MASK]},
        "dagster-k8s/config": '{"env_secrets": ["x"], "a": "***"}',
    }


@pytest.mark.parametrize(
    ("address", "said", "masked"),
    [
        # What Apprise says of an address that it cannot use, and requests of one that does not answer.
        ("slack://T1JJ3T3L2/A1BRTD4JD/x", "Unparseable URL slack://T1JJ3T3L2/A1BRTD4JD/x", f"Unparseable URL {MASK}"),
        ("jsons://h.example.org/T1JJ3T3L2/B9", "url: /T1JJ3T3L2/B9 (Caused by x)", f"url: {MASK} (Caused by x)"),
        ("jsons://h.example.org/T1JJ3T3L2/B9", "to https://h.example.org/T1JJ3T3L2/B9", f"to https://{MASK}"),
        ("slack://T1/B2/TIiajkdnlazkc0XrIdevi7FQ", "tried TIiajkdnlazkc0XrIdevi7FQ", f"tried {MASK}"),
        ("mailto://u:pass-0123@h.example.org", "login pass-0123", f"login {MASK}"),
        ("json://127.0.0.1:80/slack", "slack answered from 127.0.0.1", "slack answered from 127.0.0.1"),
    ],
)
def test_an_alert_address_is_a_secret_in_whole_and_in_part(address: str, said: str, masked: str) -> None:
    environment = {"CVN_ALERT_SLACK_URL": address}
    assert Mask(secret for _, secret in known_secrets(environment)).text(said) == masked
    assert unmaskable(environment) == ()


def test_the_secrets_of_an_environment() -> None:
    environment = {
        "API_KEY": "key-0123",
        "HOME": "/home/me",
        "EMPTY_TOKEN": "",
        "CVN_WAREHOUSE_URL": "postgresql+psycopg2://cvntrade:p%40ss-word@host:5432/cvntrade",
        "REPO": "https://ghp_0123456@github.com/x",
        "HOOK": "https://hooks.example.org/post?token=tok-0123&x=1",
        "SLACK_WEBHOOK": "https://hooks.example.org/T0/B0/xyz",
    }
    found = set(known_secrets(environment))
    login = base64.b64encode(b"cvntrade:p@ss-word").decode()
    assert found == {
        ("API_KEY", "key-0123"),
        ("CVN_WAREHOUSE_URL", "p%40ss-word"),
        ("CVN_WAREHOUSE_URL", "p@ss-word"),
        ("CVN_WAREHOUSE_URL", login),
        ("REPO", "ghp_0123456"),
        ("HOOK", "tok-0123"),
        ("SLACK_WEBHOOK", "https://hooks.example.org/T0/B0/xyz"),
    }


def test_short_and_everyday_secrets_are_named_and_not_masked_by_value() -> None:
    short, long = "x" * (MIN_SECRET_LENGTH - 1), "x" * MIN_SECRET_LENGTH
    environment = {"A_TOKEN": short, "B_TOKEN": long, "PG_PASSWORD": "cvntrade", "URL": "http://me:abc@h"}
    assert unmaskable(environment) == ("A_TOKEN", "PG_PASSWORD", "URL")
    assert not is_maskable(short) and is_maskable(long)
    mask = Mask(secret for _, secret in known_secrets(environment))
    assert mask.text(f"{short} cvntrade {long}") == f"{short} cvntrade {MASK}"
    assert mask.text(f"A_TOKEN={short}") == f"A_TOKEN={MASK}"


@pytest.mark.parametrize("text", ["sk0a1b2c3d4e5f6g7h8", "canary-0123456789abcdef", "AKIAIOSFODNN7EXAMPLE"])
def test_what_looks_like_a_credential_is_not_shown(text: str) -> None:
    assert looks_like_credential(text) and shown(text) == MASK


@pytest.mark.parametrize(
    "text",
    [
        "2.5",
        "H4_SL1.0_TP2.0",
        "2025-09-01T14:30:00+02:00",
        "simulated",
        "relaxed_1_5",
        "/data/3f2a9c7b1d4e5f60a",
        "1e300",
        "nan",
    ],
)
def test_a_wrong_value_that_is_no_secret_is_shown(text: str) -> None:
    assert not looks_like_credential(text) and shown(text) == text


@pytest.mark.parametrize(
    "address", ["http://me:pw@host/x", "http://me:p/w@d@host/x", "http://tok en@host/x", "//a:'b@host/x"]
)
def test_an_address_is_shown_without_credentials_however_it_is_written(address: str) -> None:
    assert shown(address).endswith(f"//{MASK}@host/x")


def test_an_address_for_everybody_is_one_that_can_be_followed() -> None:
    assert public_address("https://operator:p/a@ss\nword@ui.example:3000/x") == "https://ui.example:3000/x"
    assert public_address("http://127.0.0.1:3000") == "http://127.0.0.1:3000"


def test_credentials_end_with_the_quotes_around_the_address() -> None:
    assert without_credentials('{"url":"http://me:pw@h","mail":"x@y"}') == '{"url":"http://***@h","mail":"x@y"}'


TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(before=TEXTS, secret=st.text(alphabet=st.characters(codec="utf-8"), min_size=MIN_SECRET_LENGTH), after=TEXTS)
def test_no_known_secret_survives_in_any_text(before: str, secret: str, after: str) -> None:
    if is_maskable(secret) and secret not in MASK * 20:
        mask = Mask([secret])
        assert secret not in mask.text(before + secret + after)
        assert secret not in json.dumps(
            mask.value(json.loads(json.dumps({"a": [before + secret + after]}))), ensure_ascii=False
        )


@given(value=JSON)
def test_masking_twice_is_masking_once_and_a_narrowed_mask_is_enough(value: Any) -> None:
    mask = Mask(["known-value", AWKWARD])
    once = mask.value(value)
    assert mask.value(once) == once
    narrowed = mask.narrowed(json.dumps(value))
    assert once == (value if narrowed is None else narrowed.value(value))
