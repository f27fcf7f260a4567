from __future__ import annotations

import io
import json
import math
import re

import numpy as np
import pytest
from judged_by_hand import judgement
from rich.console import Console
from typer.testing import CliRunner

from semantic_stereo_ros.checks import InputFileError, SemanticStereoError
from semantic_stereo_ros.cli.main import app
from semantic_stereo_ros.evaluation.page import write_page
from semantic_stereo_ros.evaluation.pictures import ERROR_COLORS, NO_ANSWER, NO_TRUTH, draw_error
from semantic_stereo_ros.evaluation.report import grids, make_report, write_json, write_markdown
from semantic_stereo_ros.evaluation.suite import Skipped

PARAMETERS = {"stereo.backend": "sgbm", "segmentation.backend": "geometric"}


def a_report(name="lab_1", skipped=()):
    cells = [(0.1 * i - 0.5, 0.4, False) for i in range(12)]
    return make_report([judgement(name, errors=(0.1, -0.4, math.nan), cells=cells, own=cells[:3], reported=4)], PARAMETERS, skipped)


def test_tables_fit_100_columns_with_all_their_numbers():
    text = io.StringIO()
    console = Console(file=text, width=100)
    for grid in grids(a_report("midd05_a_case_with_a_name_that_is_far_too_long")):
        console.print(grid.rich())
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    numbers = [line for line in lines if line.startswith(" midd05_a_case")]
    assert len(numbers) == 3 and not any("…" in line[22:] for line in numbers)


def test_json_has_null_for_what_is_not_known(tmp_path):
    write_json(a_report(), tmp_path / "eval.json")
    data = json.loads((tmp_path / "eval.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["pooled"]["instances"]["recall"] is None
    assert data["pooled"]["objects"]["cells"]["count"] == 12
    assert len(data["cases"]["lab_1"]["judged"]["cells"]) == 12


def test_markdown_is_a_table_per_question_by_source(tmp_path):
    write_markdown(a_report(), tmp_path / "tables.md")
    lines = (tmp_path / "tables.md").read_text().splitlines()
    assert sum(line.startswith("| lab (1) |") for line in lines) == 5  # the table of masks has cells and own masks
    assert not any("lab_1" in line for line in lines)
    widths = {line.count("|") for line in lines if line.startswith("|") and "known" in line or line.startswith("| lab (1) | 67")}
    assert widths == {13}


def test_the_page_escapes_names_and_reasons(tmp_path):
    name = "lab_<script>alert(1)"
    path = tmp_path / "report.html"
    write_page(a_report(name, [Skipped("<b>x", "it lacks 'left.png' & more")]), {name: {"overlay": 'a"b.jpg'}}, path)
    page = path.read_text()
    assert "<script>" not in page and "<b>" not in page
    assert "lab_&lt;script&gt;" in page and "&amp; more" in page and 'src="a&quot;b.jpg"' in page
    assert page.count("<svg") == 6 and "nan" not in re.sub(r"<[a-z]", "", page)


def test_errors_are_drawn_in_steps():
    truth = np.array([[10, 10, 10, np.nan]], np.float32)
    disparity = np.array([[10.1, 14.0, np.nan, 10.0]], np.float32)
    assert draw_error(disparity, truth)[0].tolist() == [list(c) for c in (ERROR_COLORS[0], ERROR_COLORS[-1], NO_ANSWER, NO_TRUTH)]


def test_the_verb_judges_a_suite_and_writes_all_files(write_case, tmp_path):
    suite = write_case("lab_1")
    write_case("lab_2")
    (suite / "lab_2" / "calib.json").write_text("{")
    done = CliRunner().invoke(app, ["eval", "--suite", str(suite), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "skipped: lab_2, because" in done.output and "no valid JSON" in done.output
    data = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert list(data["cases"]) == ["lab_1"] and data["pooled"]["disparity"]["epe_px"] < 0.2
    assert data["parameters"]["stereo.backend"] == "sgbm"
    page = (tmp_path / "out" / "report.html").read_text()
    pictures = re.findall(r'src="([^"]+)"', page)
    assert len(pictures) == 4 and all((tmp_path / "out" / picture).is_file() for picture in pictures)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["--suite", "nowhere"], InputFileError, "nowhere does not exist"),
        (["--suite", ".", "--synthetic", "3"], SemanticStereoError, "--suite takes images, truth and calibration from its cases"),
        (["--synthetic", "1", "--only", "lab_1"], SemanticStereoError, "give --suite DIR"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(arguments, error, text):
    done = CliRunner().invoke(app, ["eval", *arguments])
    assert isinstance(done.exception, error) and text in str(done.exception)


def test_a_suite_of_which_no_case_can_be_read_says_why(write_case):
    suite = write_case("lab_1", size_wh=[10, 10])
    done = CliRunner().invoke(app, ["eval", "--suite", str(suite)])
    assert isinstance(done.exception, SemanticStereoError)
    assert "no case could be read; the first, lab_1: " in str(done.exception) and "10x10" in str(done.exception)
