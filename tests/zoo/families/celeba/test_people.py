import pytest

from lorascope.errors import FileError, FormatError
from lorascope.zoo.families.celeba.people import digest_of, read_celebrities
from tests.zoo.stand_ins import ATTRIBUTES, write_celeba


def test_the_lists_are_read(celeba_folder):
    read = read_celebrities(celeba_folder)
    assert read.names == tuple(ATTRIBUTES.split())
    assert sorted(read.files) == [100 + k for k in range(7)]
    assert read.files[100] == ("000001.jpg", "000008.jpg", "000015.jpg", "000022.jpg")
    lines = (celeba_folder / "list_attr_celeba.txt").read_text().splitlines()
    expected = [[value == "1" for value in line.split()[1:]] for line in (lines[2], lines[9])]
    assert read.of(("000001.jpg", "000008.jpg")).tolist() == expected
    assert read.with_pictures(4) == sorted(read.files)
    assert read.with_pictures(5) == []


def test_the_lists_may_lie_in_their_own_folders(celeba_folder, tmp_path):
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Img").mkdir()
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt"):
        (tmp_path / "Anno" / name).write_bytes((celeba_folder / name).read_bytes())
    (tmp_path / "Img" / "img_align_celeba").symlink_to(celeba_folder / "img_align_celeba")
    read = read_celebrities(tmp_path)
    assert read.pictures == tmp_path / "Img" / "img_align_celeba"
    assert read.files == read_celebrities(celeba_folder).files
    assert digest_of(tmp_path) == digest_of(celeba_folder)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(FileError, match=r"there is no list_attr_celeba\.txt.*CelebA\.html"):
        read_celebrities(tmp_path / "nothing")
    write_celeba(tmp_path / "short", people=1)
    file = tmp_path / "short" / "list_attr_celeba.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]))
    with pytest.raises(FormatError, match="3 pictures where the first line says 4"):
        read_celebrities(tmp_path / "short")
    write_celeba(tmp_path / "narrow", people=1)
    file = tmp_path / "narrow" / "list_attr_celeba.txt"
    file.write_text(file.read_text().replace("-1\n", "\n", 1))
    with pytest.raises(FormatError, match=r"a line that has not 40 values"):
        read_celebrities(tmp_path / "narrow")
    write_celeba(tmp_path / "other", people=1)
    (tmp_path / "other" / "identity_CelebA.txt").write_text("000009.jpg 7\n")
    with pytest.raises(FormatError, match=r"the picture 000009\.jpg, which"):
        read_celebrities(tmp_path / "other")
