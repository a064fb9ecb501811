"""What the documents show works.

Commands of ours are run where that is quick, and else looked at: subcommand, options, modules, targets of make, the
paths that are named. Requests with curl are sent to a proxy, and Locust reads its options and its file. Python blocks
run; YAML blocks are for test_documented_files.py. Blocks without a language, or in one of others, are pictures, and
what a tool of others makes of its options is its own business.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from chaos.cli.main import cli
from chaos.cli.options import collect_experiments
from chaos.experiment.parser import load_experiment
from chaos.reports.markdown import BEGIN, END
from tests.documents import BLOCK, DOCUMENTS, ROOT, blocks, ran, spans_of
from tests.unit.proxy.running import running

QUICK = {"plan", "validate", "faults", "schema", "heal"}
LANGUAGES = {"sh", "python", "yaml"}
PICTURES = {"", "text", "go", "js"}
OURS = re.compile(r"(\.venv/bin/)?(chaos|make|pytest|locust|python3? -m) ")
SOURCES = re.compile(r"(\.github|benchmarks|chaos|docs|experiments|locustfiles|scripts|targets|tests)/[\w./-]*")


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a block as a shell takes them apart, without comments and redirections."""
    waiting = ""
    for line in block.splitlines():
        waiting += line
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quotation goes on in the next line
            waiting += "\n"
            continue
        waiting = ""
        if words:
            yield list(itertools.takewhile(lambda word: word != ">", words))
    assert not waiting, f"a quotation without an end: {waiting}"


def shown(program: str) -> list[list[str]]:
    """Each command of the shell blocks that begins with ``program``, once."""
    found = {
        tuple(words)
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for words in commands(block)
        if words[0] == program
    }
    return [list(words) for words in sorted(found)]


def named_in_passing() -> list[list[str]]:
    """Each command that a sentence names, as far as it does."""
    found = {span for document in DOCUMENTS for span in spans_of(document) if OURS.match(span)}
    return [shlex.split(span) for span in sorted(found)]


def missing_sources(words: list[str]) -> list[str]:
    """The paths of the repository among these that are not there."""
    return [word for word in words if SOURCES.fullmatch(word) and not (ROOT / word).exists()]


def options_of(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z].*", word)]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The subcommand, and what stands behind it."""
    command: click.Command = cli
    for count, word in enumerate(words):
        if not isinstance(command, click.Group):
            return command, words[count:]
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"no such command: chaos {shlex.join(words)}"
        command = found
    return command, []


def targets_of_make() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_every_block_is_in_a_language_that_is_looked_at_or_shows_no_command_of_ours():
    for document in DOCUMENTS:
        for language, text in BLOCK.findall(document.read_text()):
            assert language in LANGUAGES | PICTURES, f"{document.name}: what is to be done with ```{language}?"
            if language in PICTURES:
                hidden = [line for line in text.splitlines() if OURS.match(line)]
                assert hidden == [], f"{document.name}: a block with commands begins with ```sh"


def test_every_program_of_a_shell_block_is_looked_at():
    programs = {words[0] for document in DOCUMENTS for block in blocks(document, "sh") for words in commands(block)}
    # tests/conformance drives toxiproxy-cli.
    assert programs == {"chaos", "make", "pytest", "locust", "curl", "toxiproxy-cli"}, "add a test for what is new here"


def test_sources_that_a_command_names_are_there():
    missing = [
        f"{document.name}: {word}"
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for words in commands(block)
        for word in missing_sources(words)
    ]
    assert missing == []


def test_sources_that_a_sentence_names_are_there():
    missing = [f"{document.name}: {span}" for document in DOCUMENTS for span in missing_sources(spans_of(document))]
    assert missing == []


@pytest.mark.parametrize("words", shown("chaos"), ids=shlex.join)
def test_a_documented_command_is_accepted(words: list[str]):
    command, rest = command_of(words[1:])
    if words[1] in QUICK:
        done = ran("-m", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        command.make_context("chaos", rest)


@pytest.mark.parametrize("words", shown("make"), ids=shlex.join)
def test_a_documented_target_of_make_is_there(words: list[str]):
    assert set(words[1:]) <= targets_of_make()


@pytest.mark.parametrize("words", shown("pytest"), ids=shlex.join)
def test_a_documented_option_of_pytest_is_there(words: list[str], pytestconfig: pytest.Config):
    for option in options_of(words):
        pytestconfig.getoption(option)  # ValueError: no option named so


@pytest.mark.parametrize("words", named_in_passing(), ids=shlex.join)
def test_a_command_in_a_sentence_is_there_with_its_options(words: list[str], pytestconfig: pytest.Config):
    assert missing_sources(words) == []
    program = words[0].removeprefix(".venv/bin/")
    if program.startswith("python"):
        assert importlib.util.find_spec(words[2]) is not None, f"no such module: {words[2]}"
        program, words = words[2], words[2:]
    match program:
        case "chaos":
            command, rest = command_of(words[1:])
            known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
            assert set(options_of(rest)) <= known
        case "make":
            assert set(words[1:]) <= targets_of_make()
        case "pytest":
            for option in options_of(words):
                pytestconfig.getoption(option)


def test_locust_takes_the_documented_options_and_finds_visitors_in_the_documented_file(tmp_path: Path):
    files = [block for block in blocks(ROOT / "docs/load.md", "python") if "on_schedule(" in block]
    (tmp_path / "locustfile.py").write_text(files[0])
    for words in shown("locust"):
        done = ran("-m", *words, "--list", cwd=tmp_path)
        assert (done.returncode, "Visitors" in done.stdout) == (0, True), done.stdout + done.stderr


def sent(words: list[str], api: str) -> tuple[str, str, str | None]:
    """Method, address and body of a request with curl, to the API at ``api``."""
    method = data = address = None
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-d":
                data = re.sub(r'("listen": "127.0.0.1):\d+', r"\1:0", next(rest))
            case "-X":
                method = next(rest)
            case _:
                assert address is None, f"an option of curl that is not known here: {word}"
                address = word.replace("127.0.0.1:8474", api)
    assert address is not None
    return method or ("GET" if data is None else "POST"), address, data


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if "\ncurl " in "".join(blocks(path, "sh"))], ids=lambda path: path.name
)
def test_the_requests_with_curl_are_answered_one_after_the_other(document: Path):
    with running() as server:
        for words in (words for block in blocks(document, "sh") for words in commands(block) if words[0] == "curl"):
            method, address, data = sent(words, server.url)
            proxy = re.search(r"/proxies/(\w+)/", address)
            if proxy and proxy[1] not in asked("GET", f"{server.url}/proxies"):
                asked("POST", f"{server.url}/proxies", json.dumps({"name": proxy[1], "upstream": "127.0.0.1:9"}))
            asked(method, address, data)


def asked(method: str, address: str, data: str | None = None) -> object:
    """The JSON that is answered; urllib.error.HTTPError for a status of failure."""
    request = urllib.request.Request(address, method=method, data=None if data is None else data.encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or "null")


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.exists() and blocks(path, "python")], ids=lambda path: path.name
)
def test_the_python_blocks_run(document: Path):
    for block in blocks(document, "python"):
        done = ran("-W", "error", "-c", block)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        for expected in re.findall(r"print\(.*\)  # ([^,\n]+)", block):
            assert expected.strip() in done.stdout


def test_every_shipped_experiment_has_its_row_among_the_experiments():
    folder = ROOT / "experiments"
    text = (folder / "README.md").read_text()
    shipped = [path.relative_to(folder).as_posix() for path in collect_experiments([folder])]
    assert [path for path in shipped if f"]({path})" not in text] == []


def test_the_table_of_results_names_each_shipped_experiment_by_its_title():
    _, _, rest = (ROOT / "README.md").read_text().partition(BEGIN)
    table, _, _ = rest.partition(END)
    shipped = collect_experiments([ROOT / "experiments"])
    rows = [f"[{load_experiment(path)[0].title}]({path.relative_to(ROOT).as_posix()})" for path in shipped]
    assert [row for row in rows if row not in table] == []
    assert table.count("](experiments/") == len(shipped)


def test_links_lead_somewhere():
    broken = [
        f"{document.name}: {link}"
        for document in DOCUMENTS
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text())
        if not link.startswith("http") and not (document.parent / link).exists()
    ]
    assert broken == []


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    return [
        found
        for name in command.list_commands(context)
        for found in every_command(command.get_command(context, name), (*path, name))
    ]


@pytest.mark.parametrize("path", every_command(cli), ids=" ".join)
def test_every_help_has_an_example(path: tuple[str, ...]):
    done = ran("-m", "chaos", *path, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert f"chaos {path[0]}" in done.stdout
