from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.painter import paint
from deployer.pocket_vl.sampling import model_pixels, sample_scene
from deployer.pocket_vl.scene import Scene
from deployer.pocket_vl.words import COLOURS, SHAPES, is_held_out, readable_words

BOOK = FontBook([])


def pairs(scene: Scene) -> set[str]:
    """Return the held-out pairs of coloured shapes in a scene."""
    names = [f"{shape.colour} {shape.kind}" for shape in scene.shapes]
    joined = {"+".join(sorted((a, b))) for i, a in enumerate(names) for b in names[i + 1 :] if a != b}
    return {pair for pair in joined if is_held_out("pair", pair)}


def unseen_words(scene: Scene) -> list[str]:
    return [
        text.string
        for text in scene.texts
        if (text.string.isalpha() and is_held_out("word", text.string.lower()))
        or (text.string.isdigit() and len(text.string) > 1 and is_held_out("number", text.string))
    ]


def test_a_seed_gives_one_scene_and_one_picture() -> None:
    for seed in range(20):
        first, second = sample_scene(seed, BOOK, "any"), sample_scene(seed, BOOK, "any")
        assert first == second
        assert paint(first, BOOK).tobytes() == paint(second, BOOK).tobytes()
    assert len({sample_scene(seed, BOOK, "any") for seed in range(20)}) == 20


def test_training_never_shows_a_held_out_combination() -> None:
    for seed in range(300):
        for level in ("easy", "any"):
            scene = sample_scene(seed, BOOK, level)  # type: ignore[arg-type]  # both are levels
            assert not pairs(scene), (seed, level)
            made_up = [word for word in unseen_words(scene) if not word.isalpha()]
            assert not made_up, (seed, level)


def test_the_evaluation_shows_held_out_combinations() -> None:
    scenes = [sample_scene(seed, BOOK, "unseen") for seed in range(200)]
    several = [scene for scene in scenes if len({(s.colour, s.kind) for s in scene.shapes}) > 1]
    assert sum(bool(pairs(scene)) for scene in several) > 0.6 * len(several)
    printed = [scene for scene in scenes if scene.texts]
    assert sum(bool(unseen_words(scene)) for scene in printed) > 0.6 * len(printed)


def test_a_picture_has_the_size_of_its_scene_and_shows_what_it_holds() -> None:
    for seed in range(40):
        scene = sample_scene(seed, BOOK, "judged")
        picture = paint(scene, BOOK)
        assert picture.size == (scene.width, scene.height) and picture.mode == "RGB"
        plain = scene.background.kind == "plain" and scene.finish.noise == 0 and scene.finish.jpeg is None
        if plain and (scene.shapes or scene.texts):
            colours = picture.getcolors(1 << 20)
            assert colours is not None and len(colours) > 1


def test_things_keep_inside_the_canvas() -> None:
    for seed in range(200):
        scene = sample_scene(seed, BOOK, "judged")
        for item in scene.items:
            assert -1 <= item.box.x0 < item.box.x1 <= scene.width + 1, seed
            assert -1 <= item.box.y0 < item.box.y1 <= scene.height + 1, seed


def test_all_shapes_and_colours_turn_up() -> None:
    shapes = [shape for seed in range(400) for shape in sample_scene(seed, BOOK, "any").shapes]
    assert {shape.kind for shape in shapes} == set(SHAPES)
    assert {shape.colour for shape in shapes} == set(COLOURS)
    assert {shape.style for shape in shapes} == {"fill", "both", "outline"}


def test_letters_of_judged_pictures_are_large_enough_once_tiles_are_cut() -> None:
    for seed in range(200):
        scene = sample_scene(seed, BOOK, "judged")
        for text in scene.texts:
            assert text.size >= 11, seed


def test_shapes_are_large_enough_to_be_told_apart() -> None:
    for seed in range(200):
        scene = sample_scene(seed, BOOK, "judged")
        for shape in scene.shapes:
            longer = max(shape.box.width, shape.box.height)
            assert longer > 0.1 * min(scene.width, scene.height), seed
            if shape.kind in ("oval", "rectangle"):
                assert longer > 1.7 * min(shape.box.width, shape.box.height), seed


def test_no_canvas_is_stretched_much_by_its_tiles() -> None:
    for seed in range(300):
        scene = sample_scene(seed, BOOK, "any")
        columns, rows = model_pixels().plan(scene.width, scene.height).grid
        stretch = columns * scene.height / (rows * scene.width)
        assert 1 / 1.2 < stretch < 1.2, seed


def test_judged_pictures_print_short_words_and_numbers() -> None:
    for seed in range(300):
        for text in sample_scene(seed, BOOK, "judged").texts:
            assert text.string.lower() in readable_words() or (
                text.string.isdigit() and len(text.string) <= 4
            ), seed
            assert text.size >= 12, seed
