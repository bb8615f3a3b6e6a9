"""A model's way to the hub: what would be sent and what speaks against it, and the sending.

Nothing leaves the machine before the folder has been looked through: a card that names licence and base, no path of this machine, no
key. The token is the hub client's own (`hf auth login`, HF_TOKEN) and is neither read from elsewhere nor shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zephyr import artifacts
from zephyr.artifacts import Manifest
from zephyr.errors import ArtifactError, UsageError, ZephyrError
from zephyr.export import write
from zephyr.models import load
from zephyr.models.reading import first_line
from zephyr.recipe import ModelConfig

KINDS = (".safetensors", ".gguf", ".json", ".jinja", ".model", ".txt", ".md", ".png", ".svg")
PLAIN = re.compile(r"(LICENSE|NOTICE|USE_POLICY)[^/]*|\.gitattributes")
READ = (".md", ".json", ".jinja", ".txt")
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt")  # any text may stand there
# places that exist on one machine alone
_PATH = re.compile(
    r"(?<![\w.:/-])(?:/(?:home|Users|root|mnt|media|data|work|tmp|var|opt|srv|scratch|workspace|content|nfs|gpfs|lustre|private)/[\w.@+-]+"
    r"|~/[\w.@+-]+|[A-Za-z]:\\\\?[\w.@+-]+)|file://[\w./@+-]+"
)
_KEY = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}"
    r"|\bglpat-[\w-]{20,}|\bxox[abposr]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
NAMES = ("card", "licence", "base_model", "path", "file", "key")


class HubError(ZephyrError, RuntimeError):
    """The hub could not be reached, or did not take what was sent."""


@dataclass(frozen=True)
class Finding:
    """What speaks against sending a folder: one of `NAMES`, the file, and the problem in words."""

    check: str
    where: str
    problem: str


@dataclass(frozen=True)
class Push:
    """What would be sent where.

    Args:
        folder: that it is in.
        repo: `ORG/NAME` on the hub.
        private: whether others may not see it.
        files: bytes by name.
        findings: what speaks against it.
        url: of the commit, once it is sent.
    """

    folder: Path
    repo: str
    private: bool
    files: dict[str, int]
    findings: list[Finding] = field(default_factory=list)
    url: str | None = None

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**asdict(self), "folder": str(self.folder), "bytes": sum(self.files.values()), "sent": self.url is not None}

    def describe(self) -> str:
        """In words."""
        to = f"{self.repo} ({'private' if self.private else 'public'})"
        lines = [f"{to}: {len(self.files)} files, {_size(sum(self.files.values()))}, from {self.folder}"]
        lines += [f"  {_size(size):>9}  {name}" for name, size in self.files.items()]
        lines += [f"{finding.check}: {finding.where}: {finding.problem}" for finding in self.findings]
        return "\n".join([*lines, f"sent: {self.url}" if self.url else "nothing was sent"])


def push(model: str, repo: str, *, private: bool = False, dry_run: bool = False, ignore: Sequence[str] = ()) -> Push:
    """Send a model folder to the hub, or say what would be sent.

    Args:
        model: a folder, an artifact, or what `zephyr export` wrote.
        repo: `ORG/NAME`; it is made if it is not there.
        private: make it one that others do not see; one that is public already is refused.
        dry_run: send nothing.
        ignore: findings (`NAMES`, but `key`) that are no reason to stop.

    Returns:
        What was sent, or would be. Where something speaks against it that is not ignored, nothing was sent.

    Raises:
        UsageError: no model folder, no name of the hub's, or no token.
        HubError: the hub could not be reached, or refused.
    """
    if strange := [name for name in ignore if name not in NAMES or name == "key"]:
        raise UsageError(f"--ignore {strange[0]}: not a finding that can be ignored; those are {', '.join(n for n in NAMES if n != 'key')}")
    _refuse_name(repo)
    folder = folder_of(model)
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in _files(folder)}
    found = [finding for finding in findings(folder, files) if finding.check not in ignore]
    planned = Push(folder, repo, private, files, found)
    if dry_run or found:
        return planned
    return Push(folder, repo, private, files, found, url=_send(planned))


def folder_of(model: str) -> Path:
    """The folder to send: of an artifact its model, of an export all of it.

    Raises:
        UsageError: there is no such folder, or no model in it.
        ArtifactError: it is not what its manifest says.
    """
    path = Path(model).expanduser()
    if not path.is_dir():
        raise UsageError(f"{model}: no such folder; a model folder, an artifact or an export is sent")
    manifest = Manifest.read(path)
    if manifest is not None and manifest.stage == write.STAGE:
        if problem := write.problem_of(path, manifest):
            raise ArtifactError(f"{problem}; export it again")
        return path
    return Path(load.refer(ModelConfig(path=str(path))).locate())


def _files(folder: Path) -> list[Path]:
    """All but hidden ones and the manifest, which tells of this machine's places."""
    every = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != artifacts.MANIFEST)
    return [p for p in every if not any(part.startswith(".") and part != ".gitattributes" for part in p.relative_to(folder).parts)]


def _refuse_name(repo: str) -> None:
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        raise UsageError(f"{repo}: no name of the hub's, which are OWNER/NAME, of letters, digits, `-`, `_` and `.`")


# --- what speaks against it ----------------------------------------------------------------------------------------


def findings(folder: Path, files: dict[str, int]) -> list[Finding]:
    """What is wrong with a folder that is to be seen by others."""
    found = _card(folder)
    for name in files:
        path = folder / name
        if not path.name.endswith(KINDS) and not PLAIN.fullmatch(path.name):
            found.append(Finding("file", name, "neither weights nor texts of a model: code and pickles are not sent; move it away"))
        elif path.name.endswith(READ) and path.name not in VOCABULARIES:
            found += _said(name, path.read_text(encoding="utf-8", errors="replace"))
    return found


def _said(name: str, text: str) -> list[Finding]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if path := _PATH.search(line):
            found.append(Finding("path", f"{name}, line {number}", f"{path.group()} is a place on one machine"))
        if key := _KEY.search(line):
            found.append(Finding("key", f"{name}, line {number}", f"looks like a key ({key.group()[:4]}…); take it out, and revoke it"))
    return found


def _card(folder: Path) -> list[Finding]:
    path = folder / "README.md"
    if not path.exists():
        return [Finding("card", "README.md", "there is no model card; `zephyr report` writes one for a run")]
    head = re.match(r"---\n(.*?)\n---", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        said = yaml.safe_load(head.group(1)) if head else None
    except yaml.YAMLError:
        said = None
    if not isinstance(said, dict):
        return [Finding("card", "README.md", "does not begin with the hub's YAML between two lines of ---")]
    found = []
    if not said.get("license"):
        found.append(Finding("licence", "README.md", "names no licence; add `license:`, that of the base model or a stricter one"))
    base = said.get("base_model")
    bases = base if isinstance(base, list) else [base]
    if not base or any(not isinstance(b, str) or b.count("/") != 1 or b.startswith(("/", ".", "~")) for b in bases):
        found.append(Finding("base_model", "README.md", "names no base model on the hub; add `base_model: OWNER/NAME`"))
    return found


# --- sending -------------------------------------------------------------------------------------------------------


def _send(planned: Push) -> str:
    """Make the repository if need be, and send all files in one commit; its address.

    Raises:
        UsageError: there is no token, or the repository is public though a private one was asked for.
        HubError: the hub could not be reached, or refused.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        raise UsageError("no token of the hub is there; run `hf auth login`, or set HF_TOKEN")
    api = huggingface_hub.HfApi()
    try:
        api.create_repo(planned.repo, private=planned.private, repo_type="model", exist_ok=True)
        if planned.private and not api.repo_info(planned.repo, repo_type="model").private:
            raise UsageError(f"{planned.repo}: is there already and public; nothing was sent: make it private, or give another name")
        commit = api.upload_folder(
            folder_path=planned.folder,
            repo_id=planned.repo,
            repo_type="model",
            allow_patterns=list(planned.files),
            commit_message="Model made with Zephyr",
        )
    except ZephyrError:
        raise
    except Exception as error:  # the client and what it is made of raise many kinds; the user needs one line
        raise HubError(_why(error, planned.repo).replace(token, "…")) from None
    return str(commit.commit_url)


def _why(error: Exception, repo: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"{repo}: the hub did not let us write there (status {status}): the token is not allowed to, or the owner is another"
    if status is not None:
        return f"{repo}: the hub answered with status {status} ({first_line(error)}); nothing was published, run the same command again"
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "requests", "urllib3"):
        said = first_line(error)
        return f"{repo}: the hub could not be reached ({said}); nothing was published, run the same command where there is a network"
    return f"{repo}: it could not be sent ({first_line(error)})"


def _size(n: int) -> str:
    return (
        f"{n:,} B" if n < 10_000 else f"{n / 1e3:,.0f} kB" if n < 10_000_000 else f"{n / 1e6:,.0f} MB" if n < 1e10 else f"{n / 1e9:,.1f} GB"
    )
