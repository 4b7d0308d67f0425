"""Names to folders: a local path, or a Hugging Face repo that is cached or can be fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError

T5 = "google-t5/t5-base"
T5_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "spiece.model")
BUNDLE_FILES = ("config.json", "model*.safetensors", "compression_state_dict.bin", "encodec/*", "t5/*")
CODEC_FILES = ("config.json", "*.safetensors", "compression_state_dict.bin")

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def resolve(
    name_or_path: str | Path, *, revision: str | None = None, allow_patterns: Sequence[str] | None = None
) -> Path:
    """The local path itself if it exists, else the folder of the repo's snapshot in the cache, fetched if need be.

    Without network (or with HF_HUB_OFFLINE=1) a cached snapshot is used as it is. UserError, one line: a path that
    does not exist, a name that can't be a repo, an unknown repo or revision, no network and not cached.
    """
    name = str(name_or_path)
    if name and (path := local(name_or_path)):
        return path
    if isinstance(name_or_path, Path) or not is_repo_name(name):
        what = name or "the empty name"
        raise UserError(f"{what} does not exist; give a folder, a file or a Hugging Face repo name (owner/name)")
    return _snapshot(name, revision, list(allow_patterns) if allow_patterns else None)


def local(name_or_path: str | Path) -> Path | None:
    """The path if something is there."""
    try:
        path = Path(name_or_path).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, an unknown ~user, a NUL
        return None


def is_repo_name(name: str) -> bool:
    """Whether it has the form of a repo name, and not of a file's."""
    if name.endswith((".ckpt", ".bin", ".pt", ".pth", ".safetensors")):
        return False
    return REPO.fullmatch(name) is not None and ".." not in name and "--" not in name


def _snapshot(name: str, revision: str | None, patterns: list[str] | None) -> Path:
    # Imported late: it takes a good part of a second, and local bundles don't need it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except GatedRepoError as e:
        raise UserError(f"the Hugging Face repo {name} is gated; accept its terms there and log in") from e
    except RevisionNotFoundError as e:
        raise UserError(f"the Hugging Face repo {name} has no revision {revision!r}") from e
    except RepositoryNotFoundError as e:
        raise UserError(f"{name} is neither a local path nor a Hugging Face repo that can be read") from e
    except HFValidationError as e:
        raise UserError(f"{name} is neither a local path nor a valid Hugging Face repo name") from e
    except LocalEntryNotFoundError as e:
        raise UserError(
            f"{name} is not a local path, not in the Hugging Face cache, and the Hub cannot be reached; "
            "check the name and the network"
        ) from e
    except Exception as e:  # the HTTP client below changes between versions, and so do its errors
        reason = str(e).strip().partition("\n")[0][:200] or type(e).__name__
        raise UserError(f"cannot fetch the Hugging Face repo {name}: {reason}") from e


def cached(name: str) -> bool:
    """Whether a bundle of this name is in the cache, without asking the network."""
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", "model.safetensors"))
