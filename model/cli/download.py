"""`instruct-musicgen download`: a bundle and its T5 into Hugging Face's cache."""

from __future__ import annotations

import argparse

from ..errors import UsageError, UserError
from .shared_options import DEFAULT_REPO

AGAIN = "run the same command again: it goes on where it stopped"


def run(arguments: argparse.Namespace) -> None:
    """Say what is fetched and whether it fits, fetch it, and open what arrived."""
    from ..bundle import download, hub
    from ..bundle.bundle import open_bundle
    from ..bundle.info import size_text

    name = arguments.repo or DEFAULT_REPO
    if hub.local(name) or not hub.is_repo_name(name):
        raise UsageError(
            f"{name}: is not the name of a Hugging Face repo (owner/name)"
            + (", but a folder or file here: use it with --model" if hub.local(name) else "")
        )
    repos = download.plan(name, arguments.revision)
    for repo in repos:
        at = f"revision {repo.revision or 'main'}, commit {repo.commit[:12]}"
        print(f"{repo.name}: {at}, {len(repo.files)} files, {size_text(repo.size)}")
        print(f"  license: {repo.license or 'none stated'} (https://huggingface.co/{repo.name})")
    missing, size = sum(repo.missing for repo in repos), sum(repo.size for repo in repos)
    there = f", {size_text(size - missing)} are in the cache" if missing < size else ""
    folder, free = download.check_space(repos)
    print(f"to fetch: {size_text(missing)}{there}; free: {size_text(free)} in {folder}", flush=True)
    try:
        folders = [download.fetch(repo) for repo in repos]
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {AGAIN}") from None
    except UserError as e:
        raise UserError(f"{e}; {AGAIN}") from e
    bundle = open_bundle(folders[0])
    download.check_t5(folders[1] if len(folders) > 1 else folders[0] / "t5")
    print(f"{bundle.path}: complete; it needs no network now:")
    revision = f" --revision {arguments.revision}" if arguments.revision else ""
    print(f'instruct-musicgen edit song.wav -i "only the drums" -o drums.wav --model {name}{revision}')
