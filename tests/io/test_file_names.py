import subprocess
import sys

from lorascope.cli import paths
from lorascope.io import file_names, locate


def test_the_reader_and_the_search_know_the_same_names():
    assert locate.WEIGHT_NAMES is paths.WEIGHT_NAMES is file_names.WEIGHT_NAMES
    for name in file_names.WEIGHT_NAMES:
        assert name[name.rindex(".") :] in file_names.WEIGHT_SUFFIXES


def test_the_names_are_known_without_a_tensor_library():
    code = "import sys, lorascope.io.file_names; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
