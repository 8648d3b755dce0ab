import json
from pathlib import Path

import pytest
from PIL import Image

from deployer.errors import ConfigError
from deployer.prompt.messages import ImagePart, Message, TextPart
from deployer.quantize.samples import samples


def picture(path: Path) -> Path:
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path)
    return path


def texts(turns: list[Message]) -> list[str]:
    return [part.text for message in turns for part in message.parts if isinstance(part, TextPart)]


def take(source: Path | None, *, count: int = 10, pictures: bool = True) -> list[list[Message]]:
    return samples(None if source is None else str(source), count=count, seed=0, pictures=pictures)


def test_a_folder_gives_pictures_with_their_texts_and_texts_alone(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.jpg")
    (tmp_path / "a.txt").write_text("What is it?\n")
    (tmp_path / "c.txt").write_text("no picture")
    (tmp_path / "notes.md").write_text("not a sample")
    found = take(tmp_path)
    assert [texts(turns) for turns in found] == [["What is it?"], ["Describe the picture."], ["no picture"]]
    assert take(tmp_path, count=1) == found[:1]


def test_a_jsonl_file_gives_its_lines_with_answers(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    lines = [{"text": "q", "images": ["a.png"], "answer": "a"}, {"text": "alone"}]
    file = tmp_path / "s.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    found = take(file)
    assert [texts(turns) for turns in found] == [["q", "a"], ["alone"]]
    assert isinstance(found[0][0].parts[0], ImagePart)
    assert found[0][0].parts[0].source == tmp_path / "a.png"


def test_a_text_model_is_given_no_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for turns in (*take(tmp_path, pictures=False), *take(None, count=2, pictures=False)):
        assert not any(isinstance(part, ImagePart) for message in turns for part in message.parts)


def test_samples_that_ship_have_pictures_and_answers() -> None:
    for turns in take(None, count=3):
        assert isinstance(turns[0].parts[0], ImagePart)
        assert turns[-1].role == "assistant"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no sample; it must hold \.png"):
        take(tmp_path)


def test_every_broken_picture_is_named(tmp_path: Path) -> None:
    whole = picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(
        ConfigError, match=r"2 pictures cannot be read: .*cut\.png.*text\.jpg.*; take them out"
    ):
        take(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", '{"images": []}', '{"text": "a", "image": "b"}', '{"text": 1}'])
def test_a_line_that_is_no_sample_is_named_with_its_number(line: str, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(f'{{"text": "good"}}\n{line}\n')
    with pytest.raises(ConfigError, match=r"s\.jsonl:2"):
        take(file)
