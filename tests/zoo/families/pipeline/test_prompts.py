from lorascope.zoo.families.pipeline.prompts import PROMPTS


def test_33_different_prompts():
    assert len(set(PROMPTS)) == len(PROMPTS) == 33
    assert all(prompt == prompt.strip() and len(prompt) < 70 for prompt in PROMPTS)
