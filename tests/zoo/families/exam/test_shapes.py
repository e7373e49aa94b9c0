import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.engine.language.fit import layout_of
from lorascope.zoo.engine.layout import Layout
from lorascope.zoo.factory.plan import groups_of
from lorascope.zoo.families.collection import named_zoo
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


def rows_of(job):
    return job.epochs * len(job.tokens)


def test_ranks_of_a_group_pad_less_than_a_twentieth_of_the_work():
    """exam-targets as it is planned: its adapters are computed at the largest rank of their group.

    Products a token, of frozen matrices and of A and B:

        training   2 n m + 3 r (n + m)    the frozen weights need no gradient, A and B do
        labels       n m +   r (n + m)

    What else a token costs (attention, the head, norms) is left out, which makes the share larger.
    """
    zoo = named_zoo("exam-targets")
    family, engine = zoo.family(), LanguageEngine()
    shapes = layout_of(engine.load(family.base_folder, torch.float32, False), [family.spec]).shapes
    for frozen, adapters, learns in ((2, 3, True), (1, 1, False)):
        padded = whole = 0
        for group in groups_of(family, [zoo.count], engine.slots):
            specs = [family.spec_of(index) for index in group.indices]
            ranks = Layout.of(shapes, specs).ranks
            for index, spec in zip(group.indices, specs, strict=True):
                # of training by its rows; every adapter is asked the same questions
                rows = rows_of(family.job(index)) if learns else 1
                for name, shape in shapes.items():
                    each = adapters * (shape.n + shape.m)
                    padded += rows * each * (ranks[name] - spec.rank_of(name))
                    whole += rows * (frozen * shape.n * shape.m + each * ranks[name])
        assert 0.02 < padded / whole < 0.05
