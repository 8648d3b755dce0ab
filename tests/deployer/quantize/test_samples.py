import json
from pathlib import Path

import pytest
from PIL import Image

from deployer.errors import ConfigError
from deployer.prompt.messages import ImagePart, TextPart
from deployer.quantize.samples import Sample, first_few, samples


def picture(path: Path) -> Path:
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path)
    return path


def texts(sample: Sample) -> list[str]:
    return [part.text for message in sample.turns for part in message.parts if isinstance(part, TextPart)]


def take(source: Path | None, *, count: int = 10, pictures: bool = True) -> list[Sample]:
    where = None if source is None else str(source)
    return samples(where, count=count, seed=0, pictures=pictures, max_pixels=100)


def test_a_folder_gives_pictures_with_their_texts_and_texts_alone(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.jpg")
    (tmp_path / "a.txt").write_text("What is it?\n")
    (tmp_path / "c.txt").write_text("no picture")
    (tmp_path / "notes.md").write_text("not a sample")
    found = take(tmp_path)
    assert [texts(sample) for sample in found] == [["What is it?"], ["Describe the picture."], ["no picture"]]
    assert [Path(sample.name).name for sample in found] == ["a.png", "b.jpg", "c.txt"]
    assert take(tmp_path, count=1) == found[:1]


def test_a_jsonl_file_gives_its_lines_with_answers(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    lines = [{"text": "q", "images": ["a.png"], "answer": "a"}, {"text": "alone"}]
    file = tmp_path / "s.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    found = take(file)
    assert [sample.name for sample in found] == [f"{file}:1", f"{file}:3"]
    assert [texts(sample) for sample in found] == [["q", "a"], ["alone"]]
    assert isinstance(found[0].turns[0].parts[0], ImagePart)
    assert found[0].turns[0].parts[0].source == tmp_path / "a.png"


def test_a_text_model_is_given_no_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for sample in (*take(tmp_path, pictures=False), *take(None, count=2, pictures=False)):
        assert not any(isinstance(part, ImagePart) for message in sample.turns for part in message.parts)


def test_samples_that_ship_have_pictures_and_answers() -> None:
    assert [sample.name for sample in take(None, count=2)] == ["shipped sample 0", "shipped sample 1"]
    for sample in take(None, count=3):
        assert isinstance(sample.turns[0].parts[0], ImagePart)
        assert sample.turns[-1].role == "assistant"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no sample; it must hold \.png"):
        take(tmp_path)


def test_an_empty_file_is_refused_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="holds no sample; it must hold one JSON object a line"):
        take(tmp_path / "s.jsonl")


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    """A folder of links whose pictures have moved looks empty otherwise, or loses some without a word."""
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ConfigError, match=r"1 picture .*b\.png \(No such file or directory\)"):
        take(tmp_path)


def test_a_text_belongs_to_its_picture_however_its_ending_is_written(tmp_path: Path) -> None:
    picture(tmp_path / "a.PNG")
    (tmp_path / "a.TXT").write_text("What is it?")
    (sample,) = take(tmp_path)
    assert TextPart(text="What is it?") in sample.turns[0].parts


def test_every_picture_that_cannot_be_read_is_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    whole = picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("L", (20, 6)).save(tmp_path / "wide.png")
    with pytest.raises(
        ConfigError, match=r"3 pictures cannot be read: .*cut\.png.*text\.jpg.*wide\.png.*; take them out"
    ) as caught:
        take(tmp_path)
    assert "20x6 is 120 pixels: must be at most 100 (vision.max_image_pixels)" in str(caught.value)
    assert len(take(tmp_path, pictures=False)) == 4 and not recwarn.list


@pytest.mark.parametrize("name", ["a.txt", "b.txt", "lines.jsonl", "picture.png"])
def test_a_text_that_is_none_is_named(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / name).write_bytes(b'{"text": "caf\xe9"}')
    with pytest.raises(ConfigError, match=rf"{name} is no text in UTF-8 \(byte 13\); save it so"):
        take(tmp_path if name.endswith(".txt") else tmp_path / name)


def test_a_text_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, **how: str) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.txt").write_text("mine")
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ConfigError, match=r"a\.txt cannot be read \(Permission denied\); take it out"):
        take(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", '{"images": []}', '{"text": "a", "image": "b"}', '{"text": 1}'])
def test_a_line_that_is_no_sample_is_named_with_its_number(line: str, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(f'{{"text": "good"}}\n{line}\n')
    with pytest.raises(ConfigError, match=r"s\.jsonl:2"):
        take(file)


def test_all_lines_at_fault_are_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text('{"text": "good"}\n{\n[]\n\n' + "x\n" * 7)
    with pytest.raises(ConfigError) as caught:
        take(file)
    *told, more = caught.value.faults
    places = [fault.removeprefix(f"quantize.samples={file}: {file}:")[0] for fault in told]
    assert (places, more) == (list("23567"), "and 4 more")


def test_of_many_names_the_first_five_are_told_and_how_many_more_there_are() -> None:
    assert first_few(list("abcde")) == "a, b, c, d, e"
    assert first_few(list("abcdefgh")) == "a, b, c, d, e and 3 more"
