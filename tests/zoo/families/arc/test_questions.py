import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorascope.errors import DataError, FileError
from lorascope.zoo.families.arc.questions import (
    SOURCES,
    Question,
    digest_of,
    questions_of,
    source_of,
)
from tests.zoo.stand_ins import arc_question, write_arc


def test_the_archive_is_read(arc_folder):
    train = questions_of(arc_folder, "train")
    assert len(train) == 96  # of both sets
    assert {question.source for question in train} == set(range(20))
    first = arc_question("Easy", "Train", 0)
    right = "1234".index(first["answerKey"])
    options = tuple(choice["text"] for choice in first["question"]["choices"])
    assert train[0] == Question(first["id"], 1, first["question"]["stem"], options, right)
    assert train[0].prompt == f"Question: {first['question']['stem']}\nAnswer:"
    assert len(questions_of(arc_folder, "test", ("ARC-Challenge",))) == 12


def test_a_line_ends_where_json_lines_end(arc_folder, tmp_path):
    folder = shutil.copytree(arc_folder, tmp_path / "arc")
    file = folder / "ARC-Easy" / "ARC-Easy-Train.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["question"]["stem"] = "Which is 20\u00b0C?\u2028It is\u0085warm."
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    train = questions_of(folder, "train")
    assert len(train) == 96
    assert train[1].stem == rows[1]["question"]["stem"]


def test_the_hubs_tables_are_the_same_questions(arc_folder, tmp_path):
    for name in ("ARC-Easy", "ARC-Challenge"):
        for part, word in (("Train", "train"), ("Dev", "validation"), ("Test", "test")):
            lines = (arc_folder / name / f"{name}-{part}.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
            table = pa.Table.from_pylist(
                [
                    {
                        "id": row["id"],
                        "question": row["question"]["stem"],
                        "choices": {
                            key: [choice[key] for choice in row["question"]["choices"]]
                            for key in ("text", "label")
                        },
                        "answerKey": row["answerKey"],
                    }
                    for row in rows
                ]
            )
            file = tmp_path / name / f"{word}-00000-of-00001.parquet"
            file.parent.mkdir(exist_ok=True)
            pq.write_table(table, file)
    for part in ("train", "dev", "test"):
        assert questions_of(tmp_path, part) == questions_of(arc_folder, part)


@pytest.mark.parametrize(
    ("identity", "source"),
    [
        ("Mercury_SC_415702", "Mercury"),
        ("AKDE&ED_2008_8_53", "AKDE&ED"),
        ("MEAP_2005_8_43", "MEAP"),
        ("MEA_2016_8_14", "MEA"),
        ("CSZ20679", "CSZ"),
        ("LEAP__7_10339", "LEAP"),
    ],
)
def test_the_source_is_in_the_id(identity, source):
    assert SOURCES[source_of(identity)] == source


def test_a_question_of_no_exam():
    with pytest.raises(DataError, match=r"'GRE_1' is from none of the exams Mercury, MCAS"):
        source_of("GRE_1")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FileError, match=r"no dev questions of ARC-Easy.*allenai\.org/data/arc"):
        questions_of(tmp_path, "dev")
    write_arc(tmp_path)
    file = tmp_path / "ARC-Easy" / "ARC-Easy-Dev.jsonl"
    file.write_text('{"id": "MCAS_1", "question": {"stem": "?"}, "answerKey": "A"}\n')
    with pytest.raises(DataError, match=r"ARC-Easy-Dev\.jsonl: the question .*KeyError"):
        questions_of(tmp_path, "dev")
    file.write_text("{")
    with pytest.raises(FileError, match=r"reading .*ARC-Easy-Dev\.jsonl"):
        questions_of(tmp_path, "dev")


def test_the_digest_sees_a_changed_answer(tmp_path):
    before = digest_of(write_arc(tmp_path))
    file = tmp_path / "ARC-Challenge" / "ARC-Challenge-Test.jsonl"
    file.write_text(file.read_text().replace('"answerKey": "A"', '"answerKey": "B"', 1))
    assert digest_of(tmp_path) != before
