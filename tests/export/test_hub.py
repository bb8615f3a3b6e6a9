"""Nothing that should stay here goes to the hub, and what happened is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

import zephyr.export.hub as hub
from zephyr.cli import main
from zephyr.errors import UsageError

CARD = "---\nlibrary_name: transformers\nlicense: apache-2.0\nbase_model: owner/base\n---\n\n# A model\n"
TOKEN = "hf_" + "t" * 30


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path) -> Path:
    import shutil

    path = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (path / "README.md").write_text(CARD)
    (path / ".cache").mkdir()
    (path / ".cache/left").write_text("hidden")
    return path


class Api:
    """A hub that remembers what it was told."""

    public = False
    error: Exception | None = None

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = calls

    def create_repo(self, repo: str, **given: Any) -> None:
        self.calls.append(("create", (repo, given["private"])))
        if self.error:
            raise self.error

    def repo_info(self, repo: str, **given: Any) -> Any:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, **given: Any) -> Any:
        self.calls.append(("upload", given))
        return SimpleNamespace(commit_url=f"https://hub.example/{given['repo_id']}/commit/1")


calls: list[tuple[str, Any]] = []


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[Api]:
    calls.clear()
    fake = type("Fake", (Api,), {})
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    return fake


def test_a_dry_run_lists_and_sends_nothing(folder: Path, api: type[Api], capsys: pytest.CaptureFixture[str]) -> None:
    main_or_exit("push", folder, "owner/name", "--private", "--dry-run", "--json", code=0)
    found = json.loads(capsys.readouterr().out)
    assert found["repo"] == "owner/name" and found["private"] and not found["sent"] and found["findings"] == []
    assert set(found["files"]) == {p.name for p in folder.iterdir() if p.is_file()}
    assert found["bytes"] == sum((folder / name).stat().st_size for name in found["files"])
    assert calls == []
    main_or_exit("push", folder, "owner/name", "--dry-run", code=0)
    assert "owner/name (public)" in (text := capsys.readouterr().out) and "model.safetensors" in text and "nothing was sent" in text


def main_or_exit(*arguments: Any, code: int) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    assert (exit_.value.code or 0) == code


def test_it_is_sent_in_one_commit(folder: Path, api: type[Api], capsys: pytest.CaptureFixture[str]) -> None:
    sent = hub.push(str(folder), "owner/name", private=True)
    (_, created), (_, upload) = calls
    assert created == ("owner/name", True) and upload["folder_path"] == folder and sorted(upload["allow_patterns"]) == sorted(sent.files)
    assert "manifest.json" not in sent.files and sent.url == "https://hub.example/owner/name/commit/1"
    assert TOKEN not in capsys.readouterr().out + str(sent.json())


BAD = {
    "no card": ("README.md", None, "card"),
    "no head": ("README.md", "# A model\n", "card"),
    "no licence": ("README.md", CARD.replace("license: apache-2.0\n", ""), "licence"),
    "a folder as base": ("README.md", CARD.replace("owner/base", "runs/demo/sft"), "base_model"),
    "no base": ("README.md", CARD.replace("base_model: owner/base\n", ""), "base_model"),
    "a path in the card": ("README.md", CARD + "Trained from /home/somebody/models/base.\n", "path"),
    "a path in the configuration": ("generation_config.json", '{"_name_or_path": "/mnt/disk/model"}\n', "path"),
    "a key": ("README.md", CARD + f"Use {TOKEN} to fetch it.\n", "key"),
    "a private key": ("generation_config.json", '{"a": "-----BEGIN RSA PRIVATE KEY-----"}', "key"),
    "a pickle": ("optimizer.pt", "x", "file"),
    "code": ("modeling.py", "x = 1\n", "file"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_speaks_against_it(folder: Path, api: type[Api], bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, text, check = BAD[bad]
    (folder / name).unlink(missing_ok=True)
    if text is not None:
        (folder / name).write_text(text)
    found = hub.push(str(folder), "owner/name")
    assert [f.check for f in found.findings] == [check] and found.url is None and calls == []
    assert TOKEN not in found.describe()
    main_or_exit("push", folder, "owner/name", code=1)
    if check == "key":
        with pytest.raises(UsageError, match="not a finding that can be ignored"):
            hub.push(str(folder), "owner/name", ignore=["key"])
    else:
        assert hub.push(str(folder), "owner/name", ignore=[check]).url


def test_what_goes_wrong_is_said_in_a_line(folder: Path, api: type[Api], monkeypatch: pytest.MonkeyPatch) -> None:
    api.public = True
    with pytest.raises(UsageError, match="already and public; nothing was sent"):
        hub.push(str(folder), "owner/name", private=True)
    assert [name for name, _ in calls] == ["create"]
    response = SimpleNamespace(status_code=403)
    refused = type("HfHubHTTPError", (Exception,), {"response": response})
    for error, said in (
        (refused("no"), "did not let us write"),
        (ConnectionError(f"no route with {TOKEN}"), "could not be reached"),
        (RuntimeError(f"odd {TOKEN}"), "could not be sent"),
    ):
        api.error = error
        with pytest.raises(hub.HubError, match=said) as found:
            hub.push(str(folder), "owner/name")
        assert TOKEN not in str(found.value)
    for name in ("no-owner", "a/b/c", "owner/na me", "../x"):
        with pytest.raises(UsageError, match="no name of the hub"):
            hub.push(str(folder), name)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UsageError, match="HF_TOKEN"):
        hub.push(str(folder), "owner/name")
    with pytest.raises(UsageError, match="no such folder"):
        hub.push("owner/model", "owner/name")


def test_without_a_network_the_real_client_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(hub.HubError, match="could not be reached"):
        hub.push(str(folder), "owner/name")


def test_a_published_export_and_a_run(small_run: Any, tmp_path: Path, api: type[Api]) -> None:
    """An artifact's model, and an export as a whole; one that was changed since is not sent, but its card may be edited."""
    from zephyr.errors import ArtifactError
    from zephyr.export import export

    assert "model.safetensors" in hub.push(str(small_run.out / "dpo"), "owner/name", dry_run=True).files
    export(str(small_run.out / "dpo"), tmp_path / "out", to="gguf", dtype="q8_0")
    found = hub.push(str(tmp_path / "out"), "owner/name", dry_run=True)
    assert "dpo-Q8_0.gguf" in found.files and "manifest.json" not in found.files
    assert {f.check for f in found.findings} == {"licence", "base_model"}
    (tmp_path / "out/README.md").write_text(CARD)
    assert hub.push(str(tmp_path / "out"), "owner/name", dry_run=True).findings == []
    (tmp_path / "out/README.md").unlink()
    (tmp_path / "out/README.md").mkdir()
    with pytest.raises(ArtifactError, match="export it again"):
        hub.push(str(tmp_path / "out"), "owner/name", dry_run=True)
    (tmp_path / "out/README.md").rmdir()
    (tmp_path / "elsewhere.md").write_text(CARD)
    (tmp_path / "out/README.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(ArtifactError, match="export it again"):
        hub.push(str(tmp_path / "out"), "owner/name", dry_run=True)
    (tmp_path / "out/README.md").unlink()
    (tmp_path / "out/README.md").write_text(CARD)
    with (tmp_path / "out/dpo-Q8_0.gguf").open("ab") as file:
        file.write(b"changed")
    with pytest.raises(ArtifactError, match="export it again"):
        hub.push(str(tmp_path / "out"), "owner/name", dry_run=True)
