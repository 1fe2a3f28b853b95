from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config.substitute import Undecryptable, check_template, render, render_unit
from guard.errors import ConfigError
from guard.model import ComposeUnit, ContainerUnit, Host, SwarmUnit

WEB1 = Host("web1", {"ansible_host": "10.0.0.1", "port": 8080, "tls": True, "site": {"name": "dc1"}, "nothing": None})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("http://{{ ansible_host }}:{{port}}/", "http://10.0.0.1:8080/"),
        ("{{ inventory_hostname }}", "web1"),
        ("{{ site.name }}-{{ tls }}", "dc1-true"),
        ("no variable { } }} %}", "no variable { } }} %}"),
    ],
)
def test_variables_of_the_host_become_text(template: str, text: str) -> None:
    assert render(template, WEB1) == text


def test_a_host_without_an_address_is_reached_by_its_name() -> None:
    assert render("{{ ansible_host }}", Host("web7")) == "web7"


@given(st.text())
def test_a_value_is_inserted_exactly_as_it_is(value: str) -> None:
    assert render("a{{ x }}b", Host("h", {"x": value})) == f"a{value}b"


@pytest.mark.parametrize(
    "hostile", ["{{ lookup('pipe', 'id') }}", "{{ x }}", "{% raw %}", r"\g<0>", "$(id)", "${HOME}", "-oProxyCommand=id"]
)
def test_a_hostile_value_stays_the_text_it_is(hostile: str) -> None:
    assert render("{{ x }}", Host("h", {"x": hostile})) == hostile


@pytest.mark.parametrize(
    "template",
    [
        "{{ x | upper }}",
        "{{ lookup('env', 'HOME') }}",
        "{{ 1 + 1 }}",
        "{{ x[0] }}",
        "{{ x() }}",
        "{{",
        "{{}}",
        "{{ x }",
        "{% if x %}",
        "{# x #}",
        "{{ x.__class__() }}",
    ],
)
def test_anything_but_a_name_is_refused_when_the_file_is_read(template: str) -> None:
    with pytest.raises(ValueError, match="evaluates nothing"):
        check_template(template)


@pytest.mark.parametrize("name", ["missing", "nothing", "site.missing", "port.x", "site.name.x"])
def test_an_undefined_variable_is_an_error_that_names_check_host_and_variable(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        render(f"{{{{ {name} }}}}", WEB1, what="service web: check http")
    assert all(word in caught.value.message for word in ("service web: check http", "web1", name))


def test_a_list_or_mapping_cannot_be_inserted() -> None:
    with pytest.raises(ConfigError, match="site of host web1 is a dict"):
        render("{{ site }}", WEB1)


def test_a_vaulted_value_without_a_password_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="ANSIBLE_VAULT_PASSWORD_FILE"):
        render("{{ x }}", Host("h", {"x": Undecryptable("no vault secrets found")}))


def test_the_names_of_every_kind_of_service_take_variables() -> None:
    host = Host("web1", {"shop": "shop-eu"})
    assert render_unit(ContainerUnit("{{ shop }}-web"), host) == ContainerUnit("shop-eu-web")
    assert render_unit(ComposeUnit("{{ shop }}", "web"), host) == ComposeUnit("shop-eu", "web")
    assert render_unit(SwarmUnit("{{ shop }}_web"), host) == SwarmUnit("shop-eu_web")
    with pytest.raises(ConfigError, match="service api: compose: inventory variable nothing of host web1"):
        render_unit(ComposeUnit("shop", "{{ nothing }}"), host, what="service api")
