"""Writers and bases from metadata, hostile ones included."""

import pytest

from lorascope.io.dialects.metadata import base_of, network_arguments, writer_of


@pytest.mark.parametrize(
    ("metadata", "writer"),
    [
        ({}, None),
        ({"ss_network_module": "networks.lora"}, "sd-scripts"),
        ({"ss_network_module": "networks.lora_wan"}, "sd-scripts or musubi-tuner"),
        ({"ss_network_module": "lycoris.kohya"}, "LyCORIS"),
        ({"software": '{"name": "ai-toolkit"}'}, "ai-toolkit"),
        ({"software": "{"}, None),
        ({"ot_branch": "main"}, "OneTrainer"),
        ({"writer": "lorascope 1"}, "lorascope 1"),
    ],
)
def test_writers(metadata, writer):
    assert writer_of(metadata) == writer


def test_bases_and_arguments():
    assert base_of({"ss_sd_model_name": "a", "ss_base_model_version": "b"}) == "a"
    assert base_of({"ss_base_model_version": "b"}) == "b"
    assert base_of({}) is None
    assert network_arguments({"ss_network_args": '{"algo": "lokr"}'}) == {"algo": "lokr"}
    assert network_arguments({"ss_network_args": "[" * 100_000}) == {}
