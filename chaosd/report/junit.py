"""A report as JUnit XML, for what shows tests: one testcase for each target and failure class.

The rule: a class that was found is a failure, with its evidence. Where anything could not be seen, a class that was not
found is skipped, since nobody knows; and the testcase `seen` is an error that tells what was missing. A run that was ended
early, or has no end, is an error in the testcase `finished`. So a suite is green where the verdict is pass, and only there.
"""

from __future__ import annotations

import io
import json
import re

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from chaosd.checkers.verdict import Class
from chaosd.report import text
from chaosd.report.document import Report

# What XML 1.0 cannot hold (W3C, "Extensible Markup Language", 2.2).
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The document."""
    verdict = report.verdict
    suite = TestSuite(_legible(f"chaosd {verdict.experiment}"))
    suite.timestamp = text.began(verdict).isoformat()
    for name, value in (("run", verdict.run), ("seed", verdict.seed), ("cluster", verdict.cluster.version)):
        suite.add_property(name, _legible(str(value)))
    for failure in Class:
        suite.add_testcase(_of_class(report, failure))
    suite.add_testcase(_of_what_was_seen(report))
    suite.add_testcase(_of_the_end(report))
    suite.time = round(verdict.ended_at - verdict.started_at, 3)
    document = JUnitXml("chaosd")
    document.add_testsuite(suite)
    written = io.BytesIO()
    document.write(written, pretty=True)
    return written.getvalue().decode()


def _of_class(report: Report, failure: Class) -> TestCase:
    case = _case(report, failure)
    found = [violation for violation in report.verdict.violations if violation.failure is failure]
    results: list[FinalResult] = []
    for violation in found:
        result = Failure(_legible(text.where(violation)), str(failure))
        result.text = _legible(json.dumps(violation.evidence, indent=1, ensure_ascii=False))
        results.append(result)
    if not found and report.verdict.unknown:
        results.append(Skipped("not found, and not everything was seen"))
    case.result = results
    return case


def _of_what_was_seen(report: Report) -> TestCase:
    case, unseen = _case(report, "seen"), report.verdict.unknown
    if unseen:
        error = Error(f"{len(unseen)} things could not be seen", "unknown")
        error.text = _legible("\n".join(f"{one.subject}: {one.missing}" for one in unseen))
        case.result = [error]
    return case


def _of_the_end(report: Report) -> TestCase:
    case = _case(report, "finished")
    if why := report.verdict.aborted or report.state_told:
        case.result = [Error(_legible(why), "aborted" if report.verdict.aborted else report.state)]
    return case


def _case(report: Report, name: str) -> TestCase:
    return TestCase(name, _legible(report.verdict.target.replace("/", ".")), 0.0)


def _legible(told: str) -> str:
    return _NO_XML.sub("\ufffd", told)
