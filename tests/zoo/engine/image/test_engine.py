import torch

from lorascope.zoo.bases.faces.folder import faces_folder
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image import quick
from lorascope.zoo.engine.image.engine import ImageEngine
from tests.zoo.engine.image.conftest import make_base, make_job, make_unet


def test_it_loads_shapes_and_fits():
    engine = ImageEngine()
    assert engine.compiles() == (quick.library() is not None)
    base = engine.load(faces_folder(), torch.float32, engine.compiles())
    assert (base.unet.packed is not None) == engine.compiles()
    job = make_job(0)
    assert engine.shape(job).steps == job.steps
    own = make_base(make_unet())
    assert len(engine.fit(own, AdapterSpec(("to_q",), 2, 2), [job, make_job(1)], slots=1)) == 2
