"""Names to folders: a local path, or a Hugging Face repo that is cached or can be fetched."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..progress import bars_shown

T5 = "google-t5/t5-base"
T5_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "spiece.model")
BUNDLE_FILES = ("config.json", "keys.json", "*.safetensors", "compression_state_dict.bin", "encodec/*", "t5/*")
CODEC_FILES = ("config.json", "*.safetensors", "compression_state_dict.bin")

SHARD = re.compile(r"model-(\d{1,9})-of-(\d{1,9})\.safetensors", re.ASCII)
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def resolve(
    name_or_path: str | Path, *, revision: str | None = None, allow_patterns: Sequence[str] | None = None
) -> Path:
    """Return the local path itself if it exists, else the folder of the repo's snapshot in the cache.

    What is missing there is fetched.

    Without network (or with HF_HUB_OFFLINE=1, or where the Hub does not answer within HF_HUB_ETAG_TIMEOUT, by default
    10 s) a cached snapshot is used as it is. Raises UserError, in one line, for a path that does not exist, a name that
    can't be a repo's, an unknown repo or revision, or if there is no network and the snapshot is not wholly cached.
    """
    name = str(name_or_path)
    if name and (path := local(name_or_path)):
        return path
    if isinstance(name_or_path, Path) or not is_repo_name(name):
        what = name or "the empty name"
        raise UserError(f"{what} does not exist; give a folder, a file or a Hugging Face repo name (owner/name)")
    return _snapshot(name, revision, list(allow_patterns) if allow_patterns else None)


def local(name_or_path: str | Path) -> Path | None:
    """Return the path if something is there."""
    path = Path(name_or_path)
    try:
        with suppress(RuntimeError):  # no such ~user: a name like others
            path = path.expanduser()
        return path if path.exists() else None
    except (OSError, ValueError):  # a name too long, a NUL
        return None


def is_repo_name(name: str) -> bool:
    """Tell whether it has the form of a repo name, and not of a file's."""
    if name.endswith((".ckpt", ".bin", ".pt", ".pth", ".safetensors")):
        return False
    return REPO.fullmatch(name) is not None and ".." not in name and "--" not in name


def t5_repo(stated: object) -> str:
    """Return the repo that a bundle without a `t5` folder takes T5 from.

    It is the one that config.json states, else t5-base.
    """
    if not isinstance(stated, str) or not is_repo_name(stated):
        return T5
    return f"google-t5/{stated}" if stated.startswith("t5-") else stated


def _snapshot(name: str, revision: str | None, patterns: list[str] | None) -> Path:
    # Imported late: it takes a good part of a second, and local bundles don't need it.
    from huggingface_hub import snapshot_download

    prepare()
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as e:
        if (known := _known(e, name, revision)) is not None:
            raise known from e
        with suppress(Exception):  # the network broke, not the cache
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
        raise _unknown(e, name) from e


@contextmanager
def one_line(name: str, revision: str | None = None) -> Iterator[None]:
    """Give what huggingface_hub raises in the block as a UserError of one line that names the repo."""
    prepare()
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        raise _known(e, name, revision) or _unknown(e, name) from e


def prepare() -> None:
    """Limit the Hub client's waits, and show its progress bars on a terminal only."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    _limit_waits()
    if not bars_shown():
        disable_progress_bars()


def _known(e: Exception, name: str, revision: str | None) -> UserError | None:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(e, GatedRepoError):
        return UserError(f"the Hugging Face repo {name} is gated; accept its terms there and log in")
    if isinstance(e, RevisionNotFoundError):
        return UserError(f"the Hugging Face repo {name} has no revision {revision!r}")
    if isinstance(e, RepositoryNotFoundError):
        return UserError(f"{name} is neither a local path nor a Hugging Face repo that can be read")
    if isinstance(e, HFValidationError):
        return UserError(f"{name} is neither a local path nor a valid Hugging Face repo name")
    if isinstance(e, LocalEntryNotFoundError):
        return UserError(_not_cached(name, revision, str(e)))
    if isinstance(e, (PermissionError, NotADirectoryError)):
        return UserError(
            f"the Hugging Face cache cannot be written ({e.strerror}: {e.filename}); set HF_HOME to another folder"
        )
    return None


def _unknown(e: Exception, name: str) -> UserError:
    """Word an error of the HTTP client below huggingface_hub, which changes between versions."""
    reason = str(e).strip().partition("\n")[0][:200] or type(e).__name__
    return UserError(f"cannot fetch the Hugging Face repo {name}: {reason}")


def _limit_waits() -> None:
    """Give the Hub's HTTP client a time limit where it has none: a network that never answers must not hold us."""
    from huggingface_hub import constants, get_session

    session: Any = get_session()
    seconds = constants.HF_HUB_ETAG_TIMEOUT
    if hasattr(session, "event_hooks"):  # httpx: requests may come with a limit of None, which beats the client's own
        hooks = session.event_hooks
        if not any(isinstance(hook, _Limit) for hook in hooks["request"]):
            session.event_hooks = hooks | {"request": [*hooks["request"], _Limit(seconds)]}
        return
    for adapter in getattr(session, "adapters", {}).values():  # requests
        if not isinstance(adapter.send, functools.partial):
            adapter.send = functools.partial(_send, adapter.send, seconds)


class _Limit:
    """A hook that limits each wait of a request."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, request: Any) -> None:
        given = request.extensions.get("timeout", {})
        limits = {kind: given.get(kind) or self.seconds for kind in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}


def _send(send: Callable[..., Any], seconds: float, request: Any, **options: Any) -> Any:
    return send(request, **options | {"timeout": options.get("timeout") or seconds})


def _not_cached(name: str, revision: str | None, reason: str) -> str:
    """Return what to say where the Hub cannot be reached: what of the repo is in the cache, and what is missing."""
    folder = repo_folder(name)
    refs = folder / "refs"
    kept = sorted(path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file())
    if "incomplete" in reason and folder.is_dir():
        what = reason.partition("is incomplete: ")[2].partition(". ")[0]
        return f"{name} is only partly in the Hugging Face cache ({what}), and the Hub cannot be reached"
    if revision is not None and kept:
        return (
            f"revision {revision!r} of {name} is not in the Hugging Face cache (which has {', '.join(kept)}), and the "
            "Hub cannot be reached; check the revision and the network"
        )
    if kept or (folder / "blobs").is_dir():
        return f"{name} is only partly in the Hugging Face cache, and the Hub cannot be reached; check the network"
    return (
        f"{name} is not a local path, not in the Hugging Face cache, and the Hub cannot be reached; "
        "check the name and the network"
    )


def repo_folder(name: str) -> Path:
    """Return the folder in which the cache keeps a repo."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


WANTED = ("config.json", "model.safetensors", "compression_state_dict.bin")


def cached(name: str) -> bool:
    """Tell whether a whole bundle of this name is in the cache, without asking the network."""
    return not _missing(name)


def partly_cached(name: str) -> str:
    """Return what a begun download of a bundle lacks ("model.safetensors"); "": it is whole, or was never begun."""
    begun = repo_folder(name).is_dir() and any(repo_folder(name).glob("[bs]*/*"))  # blobs, snapshots
    return ", ".join(_missing(name)) if begun else ""


def _missing(name: str) -> list[str]:
    """Return the files of a bundle that the cache's main revision lacks.

    A codec may be a folder, and the weights several files.
    """
    from huggingface_hub import try_to_load_from_cache

    def has(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file), str)

    missing = [file for file in WANTED if not has(file)]
    if "compression_state_dict.bin" in missing and has("encodec/config.json"):
        missing.remove("compression_state_dict.bin")
        missing += [] if has("encodec/model.safetensors") else ["encodec/model.safetensors"]
    if "model.safetensors" in missing and (index := try_to_load_from_cache(name, "model.safetensors.index.json")):
        missing.remove("model.safetensors")
        missing += _missing_shards(Path(index).parent) if isinstance(index, str) else ["model.safetensors"]
    return missing


def _missing_shards(folder: Path) -> list[str]:
    """Return those of "model-00001-of-00003.safetensors" and so on that are not there."""
    return missing_shards([path.name for path in folder.glob("model-*-of-*.safetensors")])


def missing_shards(names: Sequence[str]) -> list[str]:
    """Return the files that a series "model-I-of-N.safetensors" lacks, by the N of those that are there."""
    series = [match for name in names if (match := SHARD.fullmatch(name))]
    if not series:
        return ["model.safetensors"]
    last = series[0][2]
    wanted = [f"model-{n:0{len(last)}}-of-{last}.safetensors" for n in range(1, min(int(last), 10_000) + 1)]
    return [name for name in wanted if name not in names]
