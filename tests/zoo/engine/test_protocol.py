import pytest

from lorascope.zoo.engine.image.engine import ImageEngine
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.engine.protocol import Engine


@pytest.mark.parametrize("engine", [ImageEngine(), LanguageEngine()])
def test_the_engines_have_what_the_factory_asks_for(engine):
    asked = [name for name in vars(Engine) if not name.startswith("_")]
    assert {"compiles", "load", "shape", "fit"} <= set(asked)
    assert all(callable(getattr(engine, name)) for name in asked)
    assert engine.slots > 0
    assert engine.exact_steps > 0
