from __future__ import annotations

from rs3d.config.lines import line_numbers


def test_tables_and_keys_have_their_lines() -> None:
    text = 'a = 1\n[b]\nc = 2\n\n[b.d]\n"e" = 3\n'
    assert line_numbers(text) == {"a": 1, "b": 2, "b.c": 3, "b.d": 5, "b.d.e": 6}


def test_dotted_keys_belong_to_their_table() -> None:
    assert line_numbers("[storage]\ncache.ttl = 3\n") == {"storage": 1, "storage.cache.ttl": 2}


def test_text_inside_a_long_string_is_not_a_key() -> None:
    assert line_numbers('a = """\nb = 1\n"""\nc = 2\n') == {"a": 1, "c": 4}
