"""The command line: what is mistyped is one line on stderr and exit code 2."""

import pytest

from varscale.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--nope"], "No such option: --nope"),
        (["plan"], "Missing argument"),
        (["nope"], "No such command 'nope'"),
        (["ingest", "a", "b", "--quality", "0"], "'--quality': Input should be greater than or equal to 1"),
        (["plan", "nope.yaml"], "nope.yaml: No such file"),
    ],
)
def test_a_mistyped_command_is_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["varscale", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("\n")) == (2, 1)
    assert message.startswith("varscale: ")
    assert said in message
