from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.families.exam.family import ExamFamily
from lorascope.zoo.families.exam.shapes import MIXED, shaped

SPEC = AdapterSpec(("q_proj", "up_proj"), rank=8, alpha=8)


def test_what_is_not_drawn_stays():
    assert shaped(SPEC, {}) == SPEC
    own = shaped(SPEC, {"rank": 4, "mlp_rank": 4, "alpha": 4, "rslora": 0})
    assert own == AdapterSpec(("q_proj", "up_proj"), rank=4, alpha=4)


def test_the_mlp_has_its_own_rank():
    own = shaped(SPEC, {"rank": 2, "mlp_rank": 4, "rslora": 1})
    assert own.rank_pattern == {"up_proj": 4}
    assert own.factor_of("a.q_proj") == 8 / 2**0.5


def test_a_zoo_mixes_all_shapes_and_its_data_do_not_change():
    plain, mixed = ExamFamily(seed=1), ExamFamily(seed=1, adapters=SPEC.plain(), shapes=MIXED)
    specs = [mixed.spec_of(i) for i in range(100)]
    assert {spec.rank for spec in specs} == {spec.rank_of("up_proj") for spec in specs} == {4, 6, 8}
    assert {(spec.alpha, spec.rslora) for spec in specs} == {(a, r) for a in (4, 8) for r in (0, 1)}
    assert plain.spec_of(3) == plain.spec
    assert plain.draw(3).hyper == mixed.draw(3).hyper
    assert plain.draw(3).kept == mixed.draw(3).kept
    assert mixed.hyper(3)["rank"] == specs[3].rank
    assert mixed.options["shapes"]["alpha"] == [4, 8]
