"""labels.csv: kinds follow from the values, and every way to be wrong says where."""

import pytest

from lorascope.errors import DataError, FileError
from lorascope.zoo.collect.label_table import infer_kind, read_labels

TEXT = """file,subject,score,tags,good,hyper:lr,group
a.safetensors,dragon,27.5,red|flying,1,1e-4,anna
b.safetensors,knight,,red,0,,bert
c.safetensors,,25,,1,2e-4,anna
"""


def write(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_become_targets(tmp_path):
    table = read_labels(write(tmp_path, TEXT))
    assert table.files == ("a.safetensors", "b.safetensors", "c.safetensors")
    assert {t.name: (t.kind, t.classes) for t in table.targets} == {
        "subject": ("multiclass", ("dragon", "knight")),
        "score": ("regression", ()),
        "tags": ("multilabel", ("flying", "red")),
        "good": ("multiclass", ("0", "1")),
    }
    assert table.labels == {
        "subject": ["dragon", "knight", None],
        "score": [27.5, None, 25.0],
        "tags": [[1.0, 1.0], [0.0, 1.0], None],
        "good": ["1", "0", "1"],
    }
    assert table.groups == ("anna", "bert", "anna")
    assert table.hyper["lr"][0] == 1e-4
    assert table.hyper["lr"][1] != table.hyper["lr"][1]


def test_kinds_and_group_can_be_told(tmp_path):
    text = "file,epochs,who\na,1,x\nb,2,y\n"
    table = read_labels(write(tmp_path, text), group="who", kinds={"epochs": "multiclass"})
    assert [(t.name, t.kind) for t in table.targets] == [("epochs", "multiclass")]
    assert table.groups == ("x", "y")
    assert read_labels(write(tmp_path, text)).groups is None


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", ""], "regression"),
        (["0", "1", "1"], "multiclass"),
        (["true", "false"], "multiclass"),
        (["a|b", "a"], "multilabel"),
    ],
)
def test_kind_of_a_column(cells, kind):
    assert infer_kind(cells) == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,score\na,1\n", "no column 'file'"),
        ("file,score\n", "no rows"),
        ("", "no rows"),
        ("file,score\na,1,2\n", "line 2 has 3 cells, expected 2"),
        ("file,score\na,1\na,2\n", "'a' stands twice"),
        ("file,x,x\na,1,2\n", "a column stands twice"),
        (",file,x\n0,a,1\n", "column 1 has no name"),
        ("file,hyper:lr\na,much\n", "line 2 of the column 'hyper:lr' holds 'much'"),
        (
            "file,score\n\na,1\n\nb,inf\n",
            "line 5 of the column 'score' holds 'inf', expected a finite",
        ),
        ('file,text,score\na,"x\ny",1\nb,z,1e999\n', "line 4 of the column 'score' holds '1e999'"),
        ("file,hyper:lr\na,1e999\n", "line 2 of the column 'hyper:lr' holds '1e999'"),
        ("file,kind\na,same\nb,same\n", r"'kind' \(multiclass\) has 1 different values"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(write(tmp_path, text))


def test_words_among_numbers_are_told(tmp_path):
    table = read_labels(write(tmp_path, "file,score,size\na,1.5,S\nb,2.5,1\nc,N/A,L\n"))
    assert [target.kind for target in table.targets] == ["multiclass", "multiclass"]
    assert len(table.told) == 1  # of mostly words nobody expects numbers
    assert (
        "'score' is read as classes: 1 of its cells are no numbers, such as 'N/A'" in table.told[0]
    )
    chosen = read_labels(tmp_path / "labels.csv", kinds={"score": "multiclass"})
    assert chosen.told == ()


def test_columns_that_are_named_must_be_there(tmp_path):
    path = write(tmp_path, TEXT)
    with pytest.raises(DataError, match="no column 'creator'"):
        read_labels(path, group="creator")
    with pytest.raises(DataError, match="no column 'size'"):
        read_labels(path, kinds={"size": "regression"})
    with pytest.raises(DataError, match="holds 'dragon', expected a finite number"):
        read_labels(path, kinds={"subject": "regression"})


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(FileError, match="is not there"):
        read_labels(tmp_path / "nowhere.csv")
    path = tmp_path / "labels.csv"
    path.write_bytes(b"file,x\n\xff\xfe,1\n")
    with pytest.raises(FileError, match="no CSV text"):
        read_labels(path)
