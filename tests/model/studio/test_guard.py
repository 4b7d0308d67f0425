"""A studio with a token: nothing but the page without it, in whichever way it is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.studio.web.guard import Guard, host_name, is_loopback

from .conftest import BACKEND
from .running import Running, running, wav

TOKEN = "a-token-of-24-characters"


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    page = tmp_path_factory.mktemp("page")
    (page / "index.html").write_text("<p>studio</p>")
    (page / "view").mkdir()
    (page / "view" / "a.js").write_text("1")
    (page.parent / "secret.txt").write_text("secret")
    with running(tiny, tmp_path_factory.mktemp("token"), token=TOKEN, backend=BACKEND, page=page) as found:
        yield found


def test_the_page_is_open_and_nothing_else(studio: Running) -> None:
    assert studio.client.get("/").text == "<p>studio</p>"
    script = studio.client.get("/page/view/a.js")
    assert (
        script.headers["content-type"].startswith("text/javascript") and script.headers["cache-control"] == "no-cache"
    )
    assert studio.client.get("/page/../secret.txt").status_code in (401, 404)
    assert studio.client.get("/page/%2e%2e/secret.txt").status_code == 404
    for path in ("/v1/models", "/jobs", "/jobs/0123456789abcdef", "/jobs/0123456789abcdef/audio/1.wav", "/x"):
        answer = studio.client.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert studio.post(wav(), prompt="only drums").status_code == 401


@pytest.mark.parametrize("headers", [
    {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN},
    {"Cookie": "studio_token_PORT=wrong"}, {"Cookie": f"other={TOKEN}"}, {"Cookie": "studio_token_PORT"},
    {"Cookie": f"studio_token={TOKEN}"}, {"Cookie": f"studio_token_1={TOKEN}"},
    {"Authorization": "Bearer \xff\xfe".encode("latin-1")},
])  # fmt: skip
def test_a_wrong_token_opens_nothing(studio: Running, headers: dict[str, str]) -> None:
    if cookie := headers.get("Cookie"):
        headers = {"Cookie": cookie.replace("PORT", str(studio.port))}
    assert studio.client.get("/v1/models", headers=headers).status_code == 401
    assert studio.client.get(f"/v1/models?token={TOKEN}").status_code == 401


def test_the_right_token_opens_all(studio: Running) -> None:
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"a=b; studio_token_{studio.port}={TOKEN}"}):
        assert studio.client.get("/v1/models", headers=headers).status_code == 200


def test_a_session_gives_the_token_as_a_cookie_that_no_script_reads(studio: Running) -> None:
    with httpx.Client(base_url=studio.url) as client:
        for wrong in ("wrong", None, 1, [TOKEN]):
            assert client.post("/session", json={"token": wrong}).status_code in (400, 401)
        assert client.post("/session", content=b"[" * 3000).status_code == 400
        assert client.post("/session", content=b"x" * 10_000).status_code == 413
        answer = client.post("/session", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"].lower()
        assert answer.status_code == 204 and "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/v1/models").status_code == 200


def test_two_studios_of_one_host_keep_their_sessions_apart(studio: Running, tiny: Path, tmp_path: Path) -> None:
    """A browser gives the cookies of 127.0.0.1 to all of its ports; httpx does so too."""
    other = "another-token-of-thirty-letters"
    with running(tiny, tmp_path, token=other, backend=BACKEND) as second, httpx.Client() as client:
        for each, token in ((studio, TOKEN), (second, other)):
            assert client.post(f"{each.url}/session", json={"token": token}).status_code == 204
        for each in (studio, second):
            assert client.get(f"{each.url}/v1/models").status_code == 200


def test_with_a_token_addresses_are_let_through_and_foreign_names_are_not(studio: Running) -> None:
    token = {"Authorization": f"Bearer {TOKEN}"}
    for host, status in (("192.168.1.7:7860", 200), ("[fe80::1]:7860", 200), ("evil.example", 403), ("localhost", 200)):
        assert studio.client.get("/v1/models", headers={**token, "Host": host}).status_code == status


@pytest.mark.parametrize(("origin", "status"), [
    ("http://{}", 200), ("https://{}", 200), ("http://evil.example", 403), ("null", 403),
    ("http://{}.evil.example", 403), ("file://", 403),
])  # fmt: skip
def test_only_the_studios_own_page_may_ask(studio: Running, origin: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": origin.format(f"127.0.0.1:{studio.port}")}
    assert studio.client.get("/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize(("site", "mode", "path", "status"), [
    ("same-origin", "cors", "/v1/models", 200), ("none", "navigate", "/v1/models", 200),
    ("cross-site", "navigate", "/", 200), ("cross-site", "no-cors", "/", 403),
    ("cross-site", "navigate", "/v1/models", 403), ("same-site", "cors", "/jobs", 403),
])  # fmt: skip
def test_another_sites_page_may_link_to_the_page_and_use_nothing(
    studio: Running, site: str, mode: str, path: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert studio.client.get(path, headers=headers).status_code == status


@pytest.mark.parametrize(("host", "name"), [
    ("localhost:80", "localhost"), ("LOCALHOST.", "localhost"), ("[::1]:80", "[::1]"), ("127.0.0.1", "127.0.0.1"),
    ("a@b", None), ("a/b", None), ("a?b", None), ("a:b", None), ("", None), ("[::1", None), ("a b", "a b"),
    ("a:99999", None),
])  # fmt: skip
def test_the_name_in_a_host_header(host: str, name: str | None) -> None:
    assert host_name(host) == name


def test_what_is_reached_from_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.1", "example.org", "localhost.evil", "")))


def test_tokens_are_compared_in_a_time_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(a) - len(b))
        return a == b

    monkeypatch.setattr("model.studio.web.guard.hmac.compare_digest", compare)
    own = Guard(lambda *_: None, token=TOKEN)
    assert own.matches(TOKEN) and not own.matches(TOKEN[:3]) and not own.matches("") and not own.matches("\ud800")
    assert compared == [0, 0, 0, 0]
