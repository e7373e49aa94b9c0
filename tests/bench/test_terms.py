import json
from dataclasses import asdict

from lorascope.bench.methods import METHODS
from lorascope.bench.terms import Terms, source_digest, terms_of
from lorascope.predict.versions import versions


def test_terms_are_those_of_the_code_and_come_back():
    terms = terms_of(["ridge", "fusion"])
    assert terms.version == versions()["lorascope"]
    assert terms.revisions == {name: METHODS[name].revision for name in ("ridge", "fusion")}
    assert terms.trials["fusion"] == METHODS["fusion"].trials
    assert Terms.from_json(json.loads(json.dumps(asdict(terms)))) == terms


def test_the_digest_follows_the_source(tmp_path, monkeypatch):
    package = tmp_path / "lorascope"
    (package / "bench").mkdir(parents=True)
    (package / "data").mkdir()
    files = (package / "bench" / "terms.py", package / "data" / "kernel.c", package / "notes.txt")
    for path in files:
        path.write_text("one")
    monkeypatch.setattr("lorascope.bench.terms.__file__", str(files[0]))
    found = set()
    for path in files:
        source_digest.cache_clear()
        found.add(source_digest())
        path.write_text("two")
    source_digest.cache_clear()
    assert source_digest() in found  # notes are no source
    assert len(found) == 3
    source_digest.cache_clear()
