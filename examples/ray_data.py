"""Edit a folder with Ray Data: one actor a model, batches of rows.

python examples/ray_data.py FOLDER OUT "Only Drums."

Ray is not a dependency (pip install 'ray[data]'). The class below is run by this project's tests, without Ray; the
lines of `main` that call Ray have not been run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import model
from model import InstructMusicGen
from model.folders.file_jobs import collect
from model.folders.run import FolderSettings, edit_files


class Editor:
    """Loads the model once in each actor; is called with batches of paths, and writes each file as it is done."""

    def __init__(self, folder: str, out: str, sentence: str, bundle: str, seed: int = 0) -> None:
        self.model = InstructMusicGen.from_pretrained(bundle)
        self.settings = FolderSettings(sentence)
        self.jobs = {str(job.input): job for job in collect([Path(folder)], Path(out), seed)}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Edit batch["path"]; return what became of each, as columns."""
        jobs = [self.jobs[path] for path in batch["path"]]
        lines = [each.line() for each in edit_files(self.model, jobs, self.settings)]
        return {name: np.array([line.get(name, "") for line in lines]) for name in ("output", "status", "error")}


def main(folder: str, out: str, sentence: str = "Only Drums.") -> None:
    """Deal the folder's files to Ray's actors in batches of eight."""
    import ray

    bundle = str(Path(model.__file__).parent / "demo" / "bundle")
    paths = [{"path": str(job.input)} for job in collect([Path(folder)], Path(out), 0)]
    results = ray.data.from_items(paths).map_batches(
        Editor, fn_constructor_args=(folder, out, sentence, bundle), batch_size=8, concurrency=2
    )
    for line in results.take_all():
        print(line["status"], line["output"], line["error"])


if __name__ == "__main__":
    main(*sys.argv[1:])
