from chaos.processes.logs import ending_in_words, last_lines


def test_the_last_lines_of_a_log_are_told_and_long_ones_are_cut(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)) + "y" * 5_000 + "\n")
    lines = last_lines(log, lines=3)
    assert lines[:2] == ("line 9998", "line 9999")
    assert len(lines[2]) == 400


def test_a_missing_log_has_no_lines(tmp_path):
    assert last_lines(tmp_path / "none") == ()


def test_an_ending_is_told_in_words():
    assert ending_in_words(3) == "exit status 3"
    assert ending_in_words(-9) == "killed by SIGKILL"
    assert ending_in_words(-63) == "killed by signal 63"
    assert ending_in_words(None) == "lost with the launcher"
