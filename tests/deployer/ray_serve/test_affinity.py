"""Where a request goes: by its first picture, else by how its prompt begins."""

import json
from typing import Any

from deployer.ray_serve.affinity import PREFIX_CHARACTERS, affinity_key, ranked

REPLICAS = [f"replica{number}" for number in range(5)]


def key_of(*messages: dict[str, Any], **fields: Any) -> bytes | None:
    return affinity_key(json.dumps({"messages": messages, **fields}).encode())


def user(*parts: Any) -> dict[str, Any]:
    texts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": texts}


def picture(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{name}"}}


def test_questions_about_one_picture_have_one_key() -> None:
    keys = {key_of(user(picture("AAAA"), f"question {number}")) for number in range(10)}
    assert len(keys) == 1 and keys != {key_of(user(picture("BBBB"), "question 0"))}


def test_questions_about_one_video_have_one_key() -> None:
    one, other = ({"type": "video_url", "video_url": {"url": f"https://a/{name}.mp4"}} for name in "ab")
    assert key_of(user(one, "q")) == key_of(user(one, "p")) != key_of(user(other, "q"))


def test_later_turns_stay_where_the_conversation_began() -> None:
    first = {"role": "user", "content": "What is left?"}
    later = [first, {"role": "assistant", "content": "A circle."}, {"role": "user", "content": "And right?"}]
    assert key_of(first) == key_of(*later)
    with_picture = [
        user(picture("AAAA"), "What?"),
        {"role": "assistant", "content": "A."},
        user(picture("B"), "?"),
    ]
    assert key_of(with_picture[0]) == key_of(*with_picture)


def test_texts_that_begin_alike_have_one_key() -> None:
    system = {"role": "system", "content": "s" * PREFIX_CHARACTERS}
    assert key_of(system, user("one")) == key_of(system, user("two"))
    assert key_of(user("one")) != key_of(user("two"))


def test_other_apis_have_keys_too() -> None:
    keys = [
        affinity_key(json.dumps(body).encode())
        for body in (
            {"prompt": "once upon"},
            {"input": "hello"},
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]},
        )
    ]
    assert None not in keys and len(set(keys)) == 3


def test_pictures_of_every_api_decide() -> None:
    def image(data: str) -> dict[str, Any]:
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}

    assert key_of(user("one", image("AAAA"))) == key_of(user(image("AAAA"), "two"), system="s")
    assert key_of(user("one", image("AAAA"))) != key_of(user("one", image("BBBB")))
    keys = [
        affinity_key(json.dumps({"prompt": text, "image_data": given}).encode())
        for text, given in (("one", "data:x"), ("two", ["data:x"]), ("three", [{"url": "data:x"}, "data:y"]))
    ]
    assert len(set(keys)) == 1 and keys[0] != affinity_key(b'{"prompt": "one"}')


def test_what_is_no_request_goes_anywhere() -> None:
    assert affinity_key(b"no json") is None and affinity_key(b"[1]") is None and affinity_key(b"{}") is None
    assert key_of({"role": "user", "content": 5}) is None and affinity_key(b'{"messages": [7]}') is None


def test_keys_spread_and_only_those_of_a_lost_replica_move() -> None:
    keys = [key for number in range(400) if (key := key_of(user(f"text {number}"))) is not None]
    homes = [ranked(key, REPLICAS)[0] for key in keys]
    assert min(homes.count(name) for name in REPLICAS) > 40
    left = [name for name in REPLICAS if name != "replica2"]
    for key, home in zip(keys, homes, strict=True):
        assert ranked(key, left)[0] == (home if home != "replica2" else ranked(key, REPLICAS)[1])
