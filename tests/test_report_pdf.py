"""The replication report as a PDF: whole, with the numbers of the records, and asking no other host."""

import importlib.util
import re

import pytest

from manet_lib.paths import project_root
from manet_lib.report.studies import study_table


@pytest.fixture(scope="module")
def report():
    """docs/report_pdf.py as a module; skipped where WeasyPrint or the libraries that it needs are missing."""
    spec = importlib.util.spec_from_file_location("report_pdf", project_root() / "docs" / "report_pdf.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        pytest.skip(str(error).splitlines()[0])
    return module


def test_the_page_holds_the_studies_and_no_expression(report):
    page = report.html()
    assert "<!--" not in page
    assert "http" not in " ".join(re.findall(r'(?:src|@import)="?([^" ]+)', page))
    for name, tests in (
        ("confounders", ("swapped",)),
        ("external", ("outside", "outside, matched")),
        ("segmented_resnet34", ("as trained",)),
        ("segmented_vgg16", ("as trained",)),
        ("variants", ("as trained",)),
    ):
        for value in study_table(name, tests)["Difference (points, 95% interval)"]:
            assert value in page


def test_it_is_printed_in_a_few_pages_with_vector_figures(report, tmp_path):
    assert 3 <= report.build(tmp_path / "report.pdf") <= 15
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Subtype /Image" not in content, "a figure of pixels"
