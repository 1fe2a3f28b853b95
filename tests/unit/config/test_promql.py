"""A variable in a PromQL query is the content of a string, whatever it holds."""

from __future__ import annotations

import pytest

from guard.config.promql import check_query, fill

FILLED = {
    "plain": ('up{instance="{{ x }}:9100"}', "web1", 'up{instance="web1:9100"}'),
    "a quote": ('up{instance="{{ x }}"}', 'a"} or vector(1) or up{b="', r'up{instance="a\"} or vector(1) or up{b=\""}'),
    "a backslash": ('up{i="{{ x }}"}', "a\\", r'up{i="a\\"}'),
    "a line end": ('up{i="{{ x }}"}', "a\nb", r'up{i="a\nb"}'),
    "single quotes": ("up{i='{{ x }}'}", 'it\'s "so"', "up{i='it\\'s \"so\"'}"),
    "an apostrophe in double quotes": ('up{i="{{ x }}"}', "it's", 'up{i="it\'s"}'),
    "a value that looks like a place": ('up{i="{{ x }}"}', "{{ y }}", 'up{i="{{ y }}"}'),
    "behind an escaped quote": (r'up{i="\"{{ x }}"}', "a", r'up{i="\"a"}'),
    "behind a comment with a quote": ('# it\'s\nup{i="{{ x }}"}', "a", '# it\'s\nup{i="a"}'),
    "behind a raw string": ('x{a=`\\`, i="{{ x }}"}', "a", 'x{a=`\\`, i="a"}'),
    "nothing to fill": ("sum(rate(x[5m]))", "a", "sum(rate(x[5m]))"),
}


@pytest.mark.parametrize("name", FILLED)
def test_a_value_stays_inside_its_string(name: str) -> None:
    query, value, filled = FILLED[name]
    check_query(query)
    assert fill(query, lambda _: value) == filled


@pytest.mark.parametrize(
    "query",
    [
        "up > {{ x }}",
        "{{ x }}",
        'up{a="b"} > {{ x }}',
        "up{i=`{{ x }}`}",
        '# up{i="{{ x }}"}',
        r'up{i="\\"} > {{ x }} or vector("")',
    ],
)
def test_elsewhere_no_variable_can_stand(query: str) -> None:
    with pytest.raises(ValueError, match="must stand inside a string of the query"):
        check_query(query)


def test_nothing_is_evaluated() -> None:
    with pytest.raises(ValueError, match="evaluates nothing"):
        check_query('up{i="{{ x | upper }}"}')
