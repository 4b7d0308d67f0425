"""Fetch a bundle, and the T5 it names, into Hugging Face's cache, so that everything works offline afterwards.

Large files are fetched here, to huggingface_hub's place for a blob not yet whole: its newer versions throw away what an
interrupted process had, and 2.2 GiB are worth going on with. Everything else is huggingface_hub's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..formats.safetensors_file import read_header, read_json
from . import hub
from .config_keys import StatedConfig

TIMEOUT = 10
"""Seconds that a question to the Hub may take; for data it is huggingface_hub's HF_HUB_DOWNLOAD_TIMEOUT (10 s)."""
SPARE = 64 << 20
"""Bytes of disk to leave free."""


@dataclass(frozen=True)
class File:
    """A file of a repo; `sha256` of those that the Hub keeps as large files, else None."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Repo:
    """The files to fetch of a repo at one commit."""

    name: str
    revision: str | None
    commit: str
    license: str | None
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def here(self, file: File) -> int:
        """Return how many bytes of a file are in the cache: all, or what an interrupted fetch left."""
        if (hub.repo_folder(self.name) / "snapshots" / self.commit / file.name).exists():
            return file.size
        paths = (_blob(self.name, file), _part(self.name, file)) if file.sha256 else ()
        return max((min(path.stat().st_size, file.size) for path in paths if path.exists()), default=0)

    @property
    def missing(self) -> int:
        """Bytes still to fetch."""
        return sum(file.size - self.here(file) for file in self.files)


def plan(name: str, revision: str | None = None) -> list[Repo]:
    """Return the bundle's files, and T5's where the bundle has none.

    Raises UserError if there is no such repo or revision, or it is no bundle.
    """
    bundle = _repo(name, revision, hub.BUNDLE_FILES)
    names = {file.name for file in bundle.files}
    needed = {
        "config.json": ("config.json",), "model.safetensors": ("model.safetensors", "model-*-of-*.safetensors"),
        "a codec (compression_state_dict.bin or encodec)": ("compression_state_dict.bin", "encodec/*"),
    }  # fmt: skip
    for what, patterns in needed.items():
        if not any(fnmatch(file, pattern) for file in names for pattern in patterns):
            raise UserError(f"{name} has no {what}; it is not a bundle; name another repo")
    if any(file.startswith("t5/") for file in names):
        return [bundle]
    config = next(file for file in bundle.files if file.name == "config.json")
    path = _fetch(bundle, config)
    t5 = hub.t5_repo(StatedConfig(read_json(path), path).section("text").get("_name_or_path"))
    found = _repo(t5, None, hub.T5_FILES)
    if "model.safetensors" not in {file.name for file in found.files}:
        raise UserError(f"{t5}, which {name} names as its T5, has no model.safetensors; choose another bundle")
    return [bundle, found]


def check_space(repos: Sequence[Repo]) -> tuple[Path, int]:
    """Return the cache's folder and the free bytes of its disk. Raises UserError if what is missing does not fit."""
    folder = _cache()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free, needed = shutil.disk_usage(place).free, sum(repo.missing for repo in repos)
    if needed and needed + SPARE > free:
        raise UserError(
            f"{folder}: {needed / 1e9:.2f} GB are still to fetch and {free / 1e9:.2f} GB are free; free some, or set "
            "HF_HOME to a folder on a larger disk"
        )
    return folder, free


def fetch(repo: Repo) -> Path:
    """Fetch the files that are missing and return the snapshot's folder.

    Raises UserError if one fails; what was fetched is kept.
    """
    for file in repo.files:
        path = _fetch(repo, file)
        if path.stat().st_size != file.size:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes, and the Hub says {file.size}; delete {path.resolve()} and "
                "run the command again"
            )
    return hub.repo_folder(repo.name) / "snapshots" / repo.commit


def check_t5(folder: Path) -> None:
    """Raise UserError unless a folder has T5's weights and a tokenizer."""
    read_header(folder / "model.safetensors")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise UserError(f"{folder} has no tokenizer (tokenizer.json or spiece.model); give a complete T5 folder")


def _repo(name: str, revision: str | None, patterns: Sequence[str]) -> Repo:
    from huggingface_hub import HfApi

    with hub.one_line(name, revision):
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)
    files = []
    for found in info.siblings or []:
        if any(fnmatch(found.rfilename, pattern) for pattern in patterns):
            sha256 = found.lfs.get("sha256") if found.lfs is not None else None
            if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):  # it becomes a file's name
                raise UserError(
                    f"{name}: the Hub gives {sha256!r:.80} as the checksum of {found.rfilename}; try again later"
                )
            files.append(File(found.rfilename, int(found.size or 0), sha256))
    if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
        raise UserError(f"{name}: the Hub gives {info.sha!r:.80} as the commit; try again later")
    return Repo(name, revision, str(info.sha), _license(info), tuple(files))


def _license(info: Any) -> str | None:
    stated = getattr(info.card_data, "license", None) if info.card_data is not None else None
    tags = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return str(stated) if stated else next(iter(tags), None)


def _fetch(repo: Repo, file: File) -> Path:
    from huggingface_hub import hf_hub_download

    with hub.one_line(repo.name, repo.revision):
        if file.sha256 is not None:
            _fetch_large(repo, file, file.sha256)
        path = Path(hf_hub_download(repo.name, file.name, revision=repo.revision, etag_timeout=TIMEOUT))
    if repo.commit not in path.parts:
        raise UserError(f"{repo.name} was changed on the Hub meanwhile; run the command again")
    return path


def _fetch_large(repo: Repo, file: File, sha256: str) -> None:
    """Put a large file's blob into the cache, going on where an interrupted fetch stopped; its checksum must fit."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.file_download import http_get

    blob, part = _blob(repo.name, file), _part(repo.name, file)
    if blob.exists() and blob.stat().st_size == file.size:
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise UserError(f"{part} is being written by another process; wait for it") from e
        if out.tell() > file.size:
            out.truncate(0)
            out.seek(0)
        if out.tell() < file.size:
            url = hf_hub_url(repo.name, file.name, revision=repo.commit)
            http_get(url, out, resume_size=out.tell(), headers=HfApi()._build_hf_headers(), expected_size=file.size)
    if (found := _sha256(part)) != sha256:
        part.unlink()
        raise UserError(
            f"{file.name} of {repo.name} arrived damaged (SHA-256 {found[:12]}..., not {sha256[:12]}...); run the "
            "command again"
        )
    os.replace(part, blob)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _blob(name: str, file: File) -> Path:
    return hub.repo_folder(name) / "blobs" / str(file.sha256)


def _part(name: str, file: File) -> Path:
    return hub.repo_folder(name) / "blobs" / f"{file.sha256}.incomplete"
