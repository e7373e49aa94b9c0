import inspect

from lorascope.zoo.factory.family import Family
from lorascope.zoo.families import FAMILIES
from tests.zoo.planted_family import PlantedFamily


def test_the_families_have_what_the_factory_asks_for():
    asked = [name for name in vars(Family) if not name.startswith("_")]
    assert {"job", "group", "hyper", "evaluate", "report", "targets"} <= set(asked)
    for family in (*(kind() for kind in FAMILIES.values()), PlantedFamily(base_folder=None)):
        for name in asked:
            assert hasattr(family, name), f"{family.name} has no {name}"
            wanted = getattr(Family, name)
            if inspect.isfunction(wanted):
                parameters = list(inspect.signature(getattr(family, name)).parameters)
                assert ["self", *parameters] == list(inspect.signature(wanted).parameters)
