"""The hub as a source of models, against a small server here that speaks its protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_checkpoint import make_model

from sleepviz import SleepvizError, models
from sleepviz.checkpoint import HUB, provenance
from sleepviz.fetching import Progress

COMMIT = "c0ffee" * 6 + "c0ff"


class TinyHub(BaseHTTPRequestHandler):
    """Answers for the repository org/tiny from `files`; org/gated is gated, all else is unknown."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        headers, status = {"X-Repo-Commit": COMMIT}, 200
        if "/org/gated" in path:
            headers, status, body = {"X-Error-Code": "GatedRepo"}, 403, b""
        elif path.startswith("/api/models/org/tiny/revision/"):
            body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": []}).encode()
        elif path.startswith("/api/models/org/tiny/tree/"):
            body = json.dumps([self._entry(name) for name in self.files]).encode()
        elif (name := path.rpartition("/")[2]) in self.files and "/org/tiny/resolve/" in path:
            body = self.files[name]
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                body, status = body[int(first) : int(last or len(body)) + 1], 206
        else:
            headers, status, body = {"X-Error-Code": "RepoNotFound"}, 404, b""
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _entry(self, name: str) -> dict[str, object]:
        oid = hashlib.sha1(self.files[name]).hexdigest()
        return {"type": "file", "path": name, "size": len(self.files[name]), "oid": oid}


@pytest.fixture
def tiny_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TinyHub]]:
    files = {file.name: file.read_bytes() for file in make_model(tmp_path / "origin").iterdir()}
    files |= {"pytorch_model.bin": b"a pickle", "modeling_tiny.py": b"raise SystemExit"}
    handler = type("Handler", (TinyHub,), {"files": files, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("SLEEPVIZ_CACHE", str(tmp_path / "ours"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield handler
        server.shutdown()


def test_a_model_is_downloaded_once_and_then_found_without_the_hub(
    tiny_hub: type[TinyHub],
) -> None:
    seen: list[Progress] = []
    folder = models.obtain("org/tiny", seen.append)
    assert provenance(folder) == HUB
    assert seen[-1].stage == "download"
    assert seen[-1].done == seen[-1].total > 0
    tiny_hub.asked.clear()
    assert models.obtain("org/tiny") == models.locate("org/tiny") == folder
    assert tiny_hub.asked == []


def test_pickles_and_code_are_never_downloaded(tiny_hub: type[TinyHub]) -> None:
    folder = models.obtain("org/tiny")
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not [path for path in tiny_hub.asked if ".bin" in path or ".py" in path]


def test_a_model_with_pickles_only_is_refused_before_its_weights_come(
    tiny_hub: type[TinyHub],
) -> None:
    del tiny_hub.files["model.safetensors"]
    with pytest.raises(SleepvizError, match="offers no safetensors"):
        models.obtain("org/tiny")


def test_a_model_that_is_no_language_model_is_refused_before_its_weights_come(
    tiny_hub: type[TinyHub],
) -> None:
    tiny_hub.files["config.json"] = b'{"architectures": ["BertModel"], "model_type": "bert"}'
    with pytest.raises(SleepvizError, match="causal language model"):
        models.obtain("org/tiny")
    assert not [path for path in tiny_hub.asked if "safetensors" in path]


def test_a_gated_model_says_where_to_accept_its_licence(tiny_hub: type[TinyHub]) -> None:
    with pytest.raises(SleepvizError, match="is gated") as caught:
        models.obtain("org/gated")
    assert "hf auth login" in caught.value.hint


def test_a_model_that_the_hub_does_not_know_is_said(tiny_hub: type[TinyHub]) -> None:
    with pytest.raises(SleepvizError, match="The hub has no model org/unknown"):
        models.obtain("org/unknown")


def test_preflight_of_a_hub_model_reads_headers_only(tiny_hub: type[TinyHub]) -> None:
    found = models.preflight("org/tiny")
    wanted = ("config.json", "model.safetensors", "tokenizer.json")
    assert found.n_params == 32
    # config.json has come already, to be read
    assert found.download_bytes == sum(len(tiny_hub.files[name]) for name in wanted[1:])
    assert models.locate("org/tiny") is None
