"""Files, folders and manifests become jobs; whatever could lose a result is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import UsageError, UserError
from model.folders.batches import Task, batches
from model.folders.file_jobs import FileJob, collect, manifest, seed_of
from model.folders.shard import Shard
from model.folders.table import COLUMNS, path_of, read, write
from model.results.edit_record import EditRecord


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_folder_is_taken_at_any_depth_without_hidden_and_other_files(tmp_path: Path, out: Path) -> None:
    for name in ("b.wav", "a/x.FLAC", "a/.y.wav", ".git/z.wav", "notes.txt", "a/b/c.mp3"):
        touch(tmp_path / "in" / name)
    jobs = collect([tmp_path / "in"], out, 0)
    assert [job.name for job in jobs] == ["a/b/c.wav", "a/x.wav", "b.wav"]
    assert all(job.output == out / job.name for job in jobs)


def test_seeds_follow_from_the_files_name_not_its_place(tmp_path: Path, out: Path) -> None:
    first = collect([touch(tmp_path / "in" / "song.wav").parent], out, 0)
    touch(tmp_path / "in" / "other.wav")
    touch(tmp_path / "elsewhere" / "deep" / "song.wav")
    again = {job.input.parent.name: job.seed for job in collect([tmp_path / "in"], out, 0) if job.name == "song.wav"}
    moved = collect([tmp_path / "elsewhere"], out, 0)
    assert again["in"] == first[0].seed == moved[0].seed == seed_of(0, "song.wav")
    assert seed_of(1, "song.wav") != seed_of(0, "song.wav") != seed_of(0, "other.wav")


def test_two_inputs_for_one_output_are_refused(tmp_path: Path, out: Path) -> None:
    files = [touch(tmp_path / name) for name in ("a/song.wav", "b/song.mp3")]
    with pytest.raises(UsageError, match=r"a/song\.wav and .*b/song\.mp3"):
        collect(files, out, 0)
    with pytest.raises(UsageError, match="both"):
        collect([touch(tmp_path / "c" / "x.wav"), touch(tmp_path / "c" / "X.flac")], out, 0)


def test_outputs_among_inputs_are_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in" / "song.wav").parent
    for place in (folder, folder / "edited", folder / ".." / "in"):
        with pytest.raises(UsageError, match="inside the input folder"):
            collect([folder], place, 0)
    with pytest.raises(UsageError, match="one of the inputs"):
        collect([folder / "song.wav"], folder, 0)


def test_a_folder_without_audio_is_refused(tmp_path: Path, out: Path) -> None:
    touch(tmp_path / "in" / "x.txt")
    with pytest.raises(UserError, match="no audio files"):
        collect([tmp_path / "in"], out, 0)


def lines(tmp_path: Path, text: str | bytes) -> list[FileJob]:
    path = tmp_path / "songs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return manifest(path, tmp_path / "out", 0)


def test_a_manifest_names_sentences_outputs_and_seeds(tmp_path: Path) -> None:
    text = '\ufeffinput,Sentence,output,seed\nx/a.mp3,"Only drums, please",d/a.flac,7\n\nb.wav,,,\n'
    first, second = lines(tmp_path, text)
    assert (first.input, first.name, first.seed) == (tmp_path / "x" / "a.mp3", "d/a.flac", 7)
    assert first.sentence == "Only drums, please"
    assert (second.name, second.sentence, second.seed) == ("b.wav", None, seed_of(0, "b.wav"))


@pytest.mark.parametrize(("text", "line", "fragment"), [
    ("file\na.wav\n", 1, "input"), ("input,tempo\na.wav,3\n", 1, "input"), ("input,input\na,b\n", 1, "input"),
    ("input,seed\na.wav\n", 2, "1 fields"), ("input,seed\na.wav,1,2\n", 2, "3 fields"),
    ("input,seed\n\na.wav,1\nb.wav,x\n", 4, "seed 'x'"), ("input,seed\na.wav,-1\n", 2, "seed"),
    (f"input,seed\na.wav,{2**64}\n", 2, "seed"), ("input,seed\n,1\n", 2, "the input column is empty"),
    ("input,output\na.wav,../b.wav\n", 2, "without .."), ("input,output\na.wav,/b.wav\n", 2, "below the folder"),
    ('input\n"a.wav\n', 2, "unexpected end"),
])  # fmt: skip
def test_a_broken_line_is_named(tmp_path: Path, text: str, line: int, fragment: str) -> None:
    with pytest.raises(UserError, match=rf"songs\.csv, line {line}: ") as caught:
        lines(tmp_path, text)
    assert fragment in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="UTF-8"):
        lines(tmp_path, b"input\n\xff\xfe.wav\n")
    with pytest.raises(UserError, match="no such file"):
        manifest(tmp_path / "absent.csv", tmp_path, 0)


def task(name: str, tokens: int) -> Task:
    made = EditRecord("", 0, "", "", "", "")
    return Task(FileJob(Path(name), Path("out") / name, name, 0), made, tokens)


def test_batches_hold_equal_lengths_and_sentences_and_lose_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    lengths = {f"{n}.wav": n % 3 * 50 for n in range(20)}
    monkeypatch.setattr("model.folders.batches.expected_frames", lambda path: lengths[str(path)])
    tasks = [task(name, n % 2) for n, name in enumerate(lengths)]
    found = list(batches(tasks, 4))
    assert sorted(t.job.name for batch in found for t in batch) == sorted(lengths)
    assert all(len(batch) <= 4 for batch in found)
    assert all(len({(lengths[t.job.name], t.tokens) for t in batch}) == 1 for batch in found)
    kinds = len({(lengths[t.job.name], t.tokens) for t in tasks})
    assert len(found) == kinds  # 20 files of 6 kinds: none has more than 4


def test_the_table_keeps_what_it_is_given(tmp_path: Path) -> None:
    path = path_of(tmp_path, Shard())
    assert path.name == "results.csv" and path_of(tmp_path, Shard(2, 8)).name == "results-2-of-8.csv"
    assert read(path) == {}
    rows = [{"output": "b.wav", "status": "failed", "error": 'comma, "quote"\nline'}, {"output": "a.wav", "seed": "1"}]
    write(path, rows)
    found = read(path)
    assert list(found) == ["a.wav", "b.wav"] and found["b.wav"]["error"] == rows[0]["error"]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_file_that_is_no_table_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("my,own\n1,2\n")
    with pytest.raises(UserError, match="move it away"):
        read(tmp_path / "results.csv")
