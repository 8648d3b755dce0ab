from deployer.config.suggest import near, way_out


def test_the_nearest_name_comes_first() -> None:
    assert near("engine.tpp", ["engine.tp", "engine.dtype", "server.port"])[0] == "engine.tp"


def test_a_name_in_other_capitals_or_with_hyphens_is_the_only_one_told() -> None:
    names = ["internvl2_8b", "internlm2_1_8b", "internvl2_26b"]
    assert near("InternVL2-8B", names) == ["internvl2_8b"]


def test_a_name_that_contains_the_word_is_near() -> None:
    assert near("8b", ["internvl2_8b", "llama3_70b"]) == ["internvl2_8b"]


def test_without_a_near_name_all_are_listed() -> None:
    assert way_out("zzz", ["b", "a"], kind="options") == "known options: `a`, `b`"
    assert way_out("zzz", [], kind="options") == "there are no options"
