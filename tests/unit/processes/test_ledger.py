from chaos.processes.ledger import Entry, Ledger, Owner, Undo, read_ledger

OWNER = Owner(pid=4711, start_ticks=99)


def test_what_is_not_marked_done_is_left_in_the_order_of_undoing(tmp_path):
    ledger = Ledger(tmp_path / "ledger", OWNER)
    ledger.add(Entry(undo=Undo.KILL_MARKED, run="r"))
    ledger.add(Entry(undo=Undo.DELETE_PROXY, url="http://h:1", proxy="p"))
    undone = ledger.add(Entry(undo=Undo.DELETE_TOXIC, url="http://h:1", proxy="p", toxic="t1"))
    ledger.add(Entry(undo=Undo.DELETE_TOXIC, url="http://h:1", proxy="p", toxic="t2"))
    ledger.add(Entry(undo=Undo.KILL_GROUP, pid=1))
    ledger.add(Entry(undo=Undo.KILL_GROUP, pid=2))
    ledger.done(undone)
    ledger.close()

    owner, left = read_ledger(tmp_path / "ledger")

    assert owner == OWNER
    assert [(entry.undo, entry.pid, entry.toxic) for entry in left] == [
        (Undo.KILL_GROUP, 2, ""),  # the latest first
        (Undo.KILL_GROUP, 1, ""),
        (Undo.KILL_MARKED, 0, ""),
        (Undo.DELETE_TOXIC, 0, "t2"),
        (Undo.DELETE_PROXY, 0, ""),
    ]


def test_a_torn_last_line_is_passed_over_wherever_it_is_cut(tmp_path):
    path = tmp_path / "ledger"
    ledger = Ledger(path, OWNER)
    ledger.add(Entry(undo=Undo.KILL_GROUP, pid=1))
    whole = len(path.read_bytes())
    ledger.add(Entry(undo=Undo.RESUME, pid=2, start_ticks=7))
    ledger.close()
    data = path.read_bytes()
    for end in range(whole, len(data) - 1):
        path.write_bytes(data[:end])
        owner, left = read_ledger(path)
        assert owner == OWNER
        assert [entry.pid for entry in left] == [1]


def test_a_missing_file_and_foreign_lines_are_an_empty_ledger(tmp_path):
    assert read_ledger(tmp_path / "nothing") == (None, [])
    (tmp_path / "odd").write_text(
        '[]\n{"number": 1}\n{"number": 2, "undo": "fly"}\n3\n{"owner": 5}\n{"done": 77}\n\xff\n'
    )
    assert read_ledger(tmp_path / "odd") == (None, [])


def test_a_closed_ledger_takes_no_more_and_may_be_closed_again(tmp_path):
    ledger = Ledger(tmp_path / "ledger", OWNER)
    ledger.close()
    ledger.close()
    ledger.add(Entry(undo=Undo.KILL_GROUP, pid=1))
    assert read_ledger(tmp_path / "ledger") == (OWNER, [])
