"""What tests found out and people should read: `record_property("told", text)` prints it after the run."""


def pytest_terminal_summary(terminalreporter):
    # properties travel from the worker processes of pytest-xdist, prints do not
    told = [
        text
        for report in terminalreporter.stats.get("passed", [])
        for name, text in report.user_properties
        if name == "told"
    ]
    if told:
        terminalreporter.section("told by tests")
        for text in told:
            terminalreporter.write_line(text)
