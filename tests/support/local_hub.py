"""A Hugging Face hub of one repository on loopback: enough of its HTTP interface for `snapshot_download`."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

GATED, PRIVATE = "owner/gated", "owner/private"


@dataclass
class LocalHub:
    """Files by revision of one repository, and what was asked for."""

    repo: str
    files: dict[str, dict[str, bytes]]  # revision -> name -> content
    endpoint: str = ""
    fetched: list[str] = field(default_factory=list)

    def commit(self, revision: str) -> str | None:
        """Return the commit of a branch, or of a commit itself."""
        commits = {name: hashlib.sha1(name.encode()).hexdigest() for name in self.files}
        return commits.get(revision) or (revision if revision in commits.values() else None)

    def at(self, commit: str) -> dict[str, bytes]:
        """Return the files of a commit."""
        return next(files for name, files in self.files.items() if self.commit(name) == commit)


@contextmanager
def serve(hub: LocalHub) -> Iterator[LocalHub]:
    """Serve the hub on a free port of loopback."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub's site does, as far as its client asks."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: LocalHub, *connection: Any) -> None:
        self.hub = hub
        super().__init__(*connection)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        return

    def answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        for repo, code in ((GATED, "GatedRepo"), (PRIVATE, "RepoNotFound")):
            if repo in path:
                return self.reply(
                    403 if code == "GatedRepo" else 401, b"{}", {"X-Error-Code": code}, with_body
                )
        if path.startswith(f"api/models/{self.hub.repo}"):
            return self.describe(
                path.removeprefix(f"api/models/{self.hub.repo}").strip("/").split("/"), with_body
            )
        if path.startswith(f"{self.hub.repo}/resolve/"):
            revision, _, name = path.removeprefix(f"{self.hub.repo}/resolve/").partition("/")
            commit = self.hub.commit(revision)
            content = self.hub.at(commit).get(name) if commit else None
            if content is not None and commit is not None:
                if with_body:
                    self.hub.fetched.append(name)
                headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
                return self.reply(200, content, headers, with_body)
            missing = "EntryNotFound" if commit else "RevisionNotFound"
            return self.reply(404, b"{}", {"X-Error-Code": missing}, with_body)
        return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

    def describe(self, words: list[str], with_body: bool) -> None:
        revision = words[1] if len(words) > 1 else "main"
        commit = self.hub.commit(revision)
        if commit is None:
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
        files = self.hub.at(commit)
        if words[0] == "tree":
            entries = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                }
                for name, content in files.items()
            ]
            return self.reply(200, json.dumps(entries).encode(), {}, with_body)
        info = {"id": self.hub.repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        return self.reply(200, json.dumps(info).encode(), {}, with_body)

    def reply(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)
