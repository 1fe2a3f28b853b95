"""A real Compose project, restored: the container as ever, and the next ``docker compose up`` keeps it."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose_plugin import place

from .conftest import Dockerd, Json, Restore
from .cutting_proxy import CuttingProxy
from .test_restore import registry  # noqa: F401 - a fixture

MODULE = Path(__file__).parents[3] / "playbooks" / "compose" / "1.0.0" / "library" / "guard_compose.py"
FILE = """\
name: shop
services:
  web:
    image: web:1.1.0 # the release
    environment: {COLOUR: green}
    ports: ["127.0.0.1::80"]
    volumes: [data:/data, /anonymous]
    networks: {default: {}, front: {aliases: [www]}}
    restart: unless-stopped
  other:
    image: web:1.1.0
    networks: [front]
networks: {front: {}}
volumes: {data: {}}
"""
PINNED = "deployment-guard.pin"


class Shop(Restore):
    """The compose module on the project ``shop``: its containers are shop-web-1 and shop-other-1."""

    folder: Path

    def plan(self, **changes: object) -> Json:
        unit = {"project": "shop", "service": "web"}
        return super().plan(**{"container": "shop-web-1", "compose": unit, **changes})

    def compose(self, *arguments: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=folder or self.folder,
            env=self.engine.environment,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def up(self, *arguments: str) -> None:
        self.compose("up", "-d", "-t", "2", *arguments)

    def web(self) -> Json:
        return self.engine.inspect("shop-web-1")

    def runs(self, tag: str) -> bool:
        seen = self.web()
        return bool(seen["State"]["Running"]) and seen["Image"] == self.ids[tag]

    @property
    def override(self) -> Path:
        return self.folder / "compose.override.yml"

    def pushed(self, tag: str, reference: str) -> str:
        """Push the image; its registry digest."""
        self.engine.docker("tag", tag, reference)
        self.engine.docker("push", "-q", reference)
        digests = json.loads(self.engine.docker("inspect", "-f", "{{json .RepoDigests}}", reference))
        return next(digest for digest in digests if digest.startswith(reference.rpartition(":")[0]))

    def says(self, image: str) -> None:
        """The next release, as a deploy writes it into the project's file."""
        text = FILE.replace("image: web:1.1.0 # the release", f"image: {image} # the release")
        (self.folder / "compose.yml").write_text(text)


@pytest.fixture(scope="session")
def composed(dockerd: Dockerd) -> Dockerd:
    place(dockerd.folder / ".docker")
    return dockerd


@pytest.fixture
def shop(restore: Restore, composed: Dockerd, tmp_path: Path) -> Iterator[Shop]:
    """The bad release runs, deployed by Compose."""
    with_compose = {"PATH": os.environ["PATH"], "HOME": str(composed.folder)}
    shop = Shop(restore.engine, restore.state, restore.ids, MODULE, with_compose)
    shop.folder = tmp_path / "shop"
    shop.folder.mkdir()
    shop.says("web:1.1.0")
    shop.up()
    yield shop
    for reference in composed.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if reference.startswith("moved:"):
            composed.docker("rmi", "-f", reference)


def test_what_was_restored_is_what_the_next_up_wants(shop: Shop) -> None:
    before = shop.web()
    shop.engine.docker("exec", "shop-web-1", "touch", "/data/mine", "/anonymous/mine")
    result = shop("swap")
    assert (result["state"], result["changed"]) == ("restored", True), result
    after = shop.web()
    assert shop.runs("web:1.0.0")
    assert {name.split(".")[0] for name in shop.engine.names()} == {"shop-web-1", "shop-other-1"}
    assert str(shop.override) in result["notice"] and "guard snapshot" in result["notice"]
    assert "pin-project" in [step["name"] for step in result["steps"]]
    assert "shop-web-1" in shop.compose("ps", "--format", "{{.Name}} {{.Service}} {{.State}}", "web")
    shop.up()
    assert shop.web()["Id"] == after["Id"], "nothing to do for Compose"
    for name in ("shop_default", "shop_front"):
        aliases = set(after["NetworkSettings"]["Networks"][name]["Aliases"]) - {after["Id"][:12]}
        assert aliases == set(before["NetworkSettings"]["Networks"][name]["Aliases"]) - {before["Id"][:12]}
    assert "web" in after["NetworkSettings"]["Networks"]["shop_front"]["Aliases"]
    labels, were = after["Config"]["Labels"], before["Config"]["Labels"]
    changed = {key for key in labels | were if labels.get(key) != were.get(key)}
    own = {"image", "config-hash", "project.config_files"}
    assert changed == {PINNED, *(f"com.docker.compose.{key}" for key in own)}
    assert labels["com.docker.compose.image"] == shop.ids["web:1.0.0"]
    shop.engine.docker("exec", "shop-web-1", "test", "-e", "/data/mine")
    shop.engine.docker("exec", "shop-web-1", "test", "-e", "/anonymous/mine")
    assert shop("swap")["state"] == "unchanged"


def test_the_pin_says_what_it_is_and_looks_like_the_projects_own_file(shop: Shop) -> None:
    (shop.folder / "compose.yml").chmod(0o640)
    os.chown(shop.folder / "compose.yml", 1234, 1235)
    shop("swap")
    text = shop.override.read_text()
    for told in ("guard", "run-1", "web:1.1.0", "guard snapshot", "delete this file"):
        assert told in text
    assert f'image: "web:guard_{shop.ids["web:1.0.0"][7:19]}"' in text
    seen = shop.override.stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o640, 1234, 1235)
    assert sorted(path.name for path in shop.folder.iterdir()) == ["compose.override.yml", "compose.yml"]


def test_the_pinned_image_is_no_matter_of_tags(shop: Shop) -> None:
    shop("swap")
    shop.engine.docker("tag", "web:1.1.0", "moved:x")
    shop.engine.docker("tag", "web:exits", "web:1.0.0")
    try:
        shop.up("--force-recreate")
        assert shop.web()["Image"] == shop.ids["web:1.0.0"]
    finally:
        shop.engine.docker("tag", shop.ids["web:1.0.0"], "web:1.0.0")


def test_without_the_command_line_the_next_up_makes_the_container_anew_once(shop: Shop, tmp_path: Path) -> None:
    shop.environment["PATH"] = str(tmp_path)
    assert shop("swap")["state"] == "restored"
    restored = shop.web()["Id"]
    shop.up()
    assert shop.runs("web:1.0.0")
    again = shop.web()["Id"]
    assert again != restored
    shop.up()
    assert shop.web()["Id"] == again


def test_a_project_whose_files_changed_since_is_not_called_up_to_date(shop: Shop) -> None:
    text = (shop.folder / "compose.yml").read_text().replace("green", "blue")
    (shop.folder / "compose.yml").write_text(text)
    shop("swap")
    assert "COLOUR=green" in shop.web()["Config"]["Env"]
    shop.up()
    assert shop.runs("web:1.0.0")
    assert "COLOUR=blue" in shop.web()["Config"]["Env"]


def test_a_snapshot_takes_the_pin_out_and_the_next_deploy_is_plain(shop: Shop) -> None:
    shop("swap")
    pinned = shop.web()["Id"]
    told = shop("snapshot", shop.plan(target=None, backup_tag=None, expect_image_id=None, run_id="sn-1", fence=2))
    assert (told["state"], told["changed"]) == ("unchanged", True)
    assert "no longer pins web" in told["notice"] and "web:1.1.0" in told["notice"]
    assert not shop.override.exists()
    assert shop.web()["Id"] == pinned, "what runs is left alone"
    shop.says("web:moves")
    shop.up()
    assert shop.runs("web:moves")
    assert PINNED not in shop.web()["Config"]["Labels"]
    again = shop("swap", shop.plan(run_id="run-2", fence=3, expect_image_id=shop.ids["web:moves"]))
    assert again["state"] == "restored"
    assert "run-2" in shop.override.read_text()


def test_an_older_snapshot_does_not_touch_a_newer_pin(shop: Shop) -> None:
    shop("swap", shop.plan(fence=5))
    pin = shop.override.read_text()
    told = shop("snapshot", shop.plan(target=None, backup_tag=None, expect_image_id=None, run_id="sn-1", fence=4))
    assert (told["state"], told["kind"]) == ("failed", "fenced")
    assert shop.override.read_text() == pin


def test_two_services_of_a_project_have_one_file_and_pins_of_their_own(shop: Shop) -> None:
    other = {"container": "shop-other-1", "service": "other", "compose": {"project": "shop", "service": "other"}}
    shop("swap")
    assert shop("swap", shop.plan(run_id="run-2", **other))["state"] == "restored"
    ids = {name: shop.engine.inspect(name)["Id"] for name in ("shop-web-1", "shop-other-1")}
    shop.up()
    assert ids == {name: shop.engine.inspect(name)["Id"] for name in ids}
    both = shop.override.read_text()
    gone = dict.fromkeys(("target", "backup_tag", "expect_image_id"))
    shop("snapshot", shop.plan(**{**other, **gone}, run_id="sn-1"))
    assert '"web":' in shop.override.read_text() and '"other":' not in shop.override.read_text()
    assert both.startswith(shop.override.read_text().partition("services:")[0])
    shop("snapshot", shop.plan(**gone, run_id="sn-2"))
    assert not shop.override.exists()


UNTOUCHED = {
    "an override of yours": {"compose.override.yml": "services:\n  web: {environment: {MINE: yes}} # mine\n"},
    "an override under another name": {"docker-compose.override.yaml": "services: {web: {environment: {MINE: yes}}}"},
    "a list of files in .env": {".env": "TAG=1\nexport COMPOSE_FILE=compose.yml\n"},
}


@pytest.mark.parametrize("files", UNTOUCHED.values(), ids=UNTOUCHED)
def test_files_of_the_users_are_never_touched_and_the_restore_says_so(shop: Shop, files: dict[str, str]) -> None:
    for name, text in files.items():
        (shop.folder / name).write_text(text)
    shop.up()
    before = {path.name: path.read_bytes() for path in shop.folder.iterdir()}
    told = shop("snapshot", shop.plan(target=None, backup_tag=None, expect_image_id=None))
    assert "could not be pinned" in told["notice"]
    result = shop("swap")
    assert result["state"] == "restored"
    assert "not pinned" in result["notice"] and "web:1.0.0" in result["notice"]
    assert {path.name: path.read_bytes() for path in shop.folder.iterdir()} == before
    restored = shop.web()["Id"]
    shop.up()
    assert shop.web()["Id"] == restored, "an up of the same files leaves it alone"
    shop.says("web:moves")
    shop.up()
    assert shop.runs("web:moves"), "and a deploy is a deploy"


def test_a_project_started_with_files_of_its_own_is_restored_without_a_pin(shop: Shop) -> None:
    (shop.folder / "prod.yml").write_text("services: {web: {environment: {MINE: 'yes'}}}")
    shop.compose("-f", "compose.yml", "-f", "prod.yml", "up", "-d")
    result = shop("swap")
    assert result["state"] == "restored" and "prod.yml" in result["notice"]
    assert not shop.override.exists()
    restored = shop.web()["Id"]
    shop.compose("-f", "compose.yml", "-f", "prod.yml", "up", "-d")
    assert shop.web()["Id"] == restored


def test_a_project_that_is_not_on_the_host_is_restored_without_a_pin(shop: Shop) -> None:
    (shop.folder / "compose.yml").rename(shop.folder / "elsewhere.yml")
    result = shop("swap")
    assert result["state"] == "restored" and "is not on this host" in result["notice"]
    assert shop.runs("web:1.0.0")


def test_a_pin_that_was_changed_by_hand_is_the_users_file(shop: Shop) -> None:
    shop("swap")
    mine = shop.override.read_text().replace('image: "web:guard', 'image: "web:mine')
    shop.override.write_text(mine)
    shop("snapshot", shop.plan(target=None, backup_tag=None, expect_image_id=None))
    plan = shop.plan(target=shop.target("web:moves"), run_id="run-2", expect_image_id=None)
    assert "is not guard's" in shop("swap", plan)["notice"]
    assert shop.runs("web:moves")
    assert shop.override.read_text() == mine


@pytest.mark.parametrize("target", ["web:exits", "web:unhealthy", "web:wont-start"])
def test_a_target_that_does_not_hold_leaves_the_project_as_it_was(shop: Shop, target: str) -> None:
    before = shop.web()
    result = shop("swap", shop.plan(target=shop.target(target)))
    assert result["state"] == "reverted"
    assert shop.web()["Id"] == before["Id"] and shop.runs("web:1.1.0")
    assert [path.name for path in shop.folder.iterdir()] == ["compose.yml"]
    shop.up()
    assert shop.web()["Id"] == before["Id"]


def test_a_revert_keeps_the_pin_of_the_rollback_before(shop: Shop) -> None:
    shop("swap")
    pin, pinned = shop.override.read_bytes(), shop.web()["Id"]
    plan = shop.plan(target=shop.target("web:exits"), run_id="run-2", expect_image_id=shop.ids["web:1.0.0"])
    assert shop("swap", plan)["state"] == "reverted"
    assert shop.override.read_bytes() == pin
    shop.up()
    assert shop.web()["Id"] == pinned


def test_going_back_to_what_was_replaced_takes_the_pin_out(shop: Shop) -> None:
    shop("swap")
    back = shop.plan(target=shop.target("web:1.1.0"), run_id="run-1-back", expect_image_id=shop.ids["web:1.0.0"])
    result = shop("swap", {**back, "backup_tag": "backup_20261123_101113"})
    assert result["state"] == "restored" and "no longer pins web" in result["notice"]
    assert not shop.override.exists()
    running = shop.web()
    assert PINNED not in running["Config"]["Labels"]
    shop.up()
    assert shop.web()["Id"] == running["Id"]


def test_a_pin_over_a_pin_is_one_of_its_own(shop: Shop) -> None:
    shop("swap")
    onward = shop.plan(target=shop.target("web:moves"), run_id="run-2", expect_image_id=None)
    assert shop("swap", onward)["state"] == "restored"
    back = shop.plan(target=shop.target("web:1.0.0"), run_id="run-3", expect_image_id=None)
    assert str(shop.override) in shop("swap", back)["notice"]
    assert "run-3" in shop.override.read_text() and "run-2" in shop.override.read_text()
    running = shop.web()["Id"]
    shop.up()
    assert shop.web()["Id"] == running


def test_a_digest_is_pinned_as_such(shop: Shop, registry: str) -> None:  # noqa: F811
    digest = shop.pushed("web:1.0.0", f"{registry}/web:1")
    target = {"image": f"{registry}/web:1", "image_id": shop.ids["web:1.0.0"], "digest": digest}
    assert shop("swap", shop.plan(target=target))["state"] == "restored"
    assert f'image: "{digest}"' in shop.override.read_text()
    restored = shop.web()["Id"]
    shop.up()
    assert shop.web()["Id"] == restored
    shop.compose("pull", "web")
    shop.up("--force-recreate")
    assert shop.runs("web:1.0.0")


def test_check_mode_and_prepare_write_no_pin(shop: Shop) -> None:
    assert shop("swap", _ansible_check_mode=True)["state"] == "planned"
    assert shop("prepare")["state"] == "planned"
    assert not shop.override.exists() and not shop.leftovers()
    shop("discard")
    assert [path.name for path in shop.folder.iterdir()] == ["compose.yml"]
    assert shop.runs("web:1.1.0")


@pytest.mark.parametrize(
    ("compose", "kind"),
    [
        ({"project": "shop", "service": "other"}, "mismatch"),
        ({"project": "x", "service": "web"}, "mismatch"),
        ({"project": "shop"}, "plan"),
        ({"project": "shop", "service": "../web"}, "plan"),
        (None, "plan"),
    ],
)
def test_another_service_is_refused_before_anything_is_touched(shop: Shop, compose: object, kind: str) -> None:
    before = shop.engine.names()
    result = shop("swap", shop.plan(compose=compose))
    assert (result["state"], result["kind"]) == ("failed", kind), result
    assert shop.engine.names() == before and shop.runs("web:1.1.0")
    assert not shop.override.exists()


# -- killed in the middle

TAG, CREATE = "POST images tag", "POST create shop-web-1.guard-next"
CUTS = [
    TAG,
    CREATE,
    "POST rename shop-web-1.guard-prev",
    "POST rename shop-web-1",
    "POST update",
    "POST stop",
    "POST start",
    "DELETE",
]


def kill_at(shop: Shop, plan: Json, cut: str, when: str) -> None:
    own = shop.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(shop.engine.socket, own, cut, when, 1) as proxy:
        process = shop.start("swap", {**plan, "engine": f"unix://{own}"})
        assert proxy.reached.wait(30), f"never came to {cut}: {proxy.changes}, {process.communicate()}"
        process.kill()
        process.communicate()


def rerun(shop: Shop, plan: Json) -> Json:
    own = shop.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(shop.engine.socket, own):
        return shop("swap", {**plan, "engine": f"unix://{own}"})


def kill_while_the_file_is_held(shop: Shop, plan: Json, step: str) -> None:
    """Kill the module after it has noted ``step`` and before it changes the project's file."""
    folder = os.open(shop.folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    own = shop.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(shop.engine.socket, own):
        process = shop.start("swap", {**plan, "engine": f"unix://{own}"})
        until = time.monotonic() + 30
        while not any(f'"step": "{step}"' in journal.read_text() for journal in shop.state.glob("*.journal")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
    os.close(folder)


def settled(shop: Shop, tag: str) -> None:
    """The image runs, nothing of guard's is left, and Compose agrees."""
    assert shop.runs(tag)
    assert not shop.leftovers()
    running = shop.web()["Id"]
    shop.up()
    assert shop.web()["Id"] == running


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_swap_killed_at_any_request_ends_restored_and_pinned(shop: Shop, cut: str, when: str) -> None:
    kill_at(shop, shop.plan(), cut, when)
    assert shop.override.exists() == (cut == "DELETE"), "the pin comes when the target is up, before the old one goes"
    result = rerun(shop, shop.plan())
    assert result["state"] == "restored" and str(shop.override) in result["notice"], result
    assert rerun(shop, shop.plan())["state"] == "unchanged"
    settled(shop, "web:1.0.0")


def test_a_swap_killed_at_the_pin_itself_is_pinned_by_the_next_run(shop: Shop) -> None:
    kill_while_the_file_is_held(shop, shop.plan(), "pin-project")
    assert not shop.override.exists() and shop.runs("web:1.0.0")
    assert rerun(shop, shop.plan())["state"] == "restored"
    settled(shop, "web:1.0.0")


@pytest.mark.parametrize("cut", ["POST start", "DELETE"])
@pytest.mark.parametrize("earlier", [False, True], ids=["without a pin", "with an earlier pin"])
def test_a_later_plan_that_goes_back_puts_the_project_back_exactly(shop: Shop, cut: str, earlier: bool) -> None:
    was = "web:1.1.0"
    if earlier:
        rerun(shop, shop.plan(target=shop.target("web:moves"), run_id="run-0"))
        was = "web:moves"
    before = shop.override.read_bytes() if earlier else None
    kill_at(shop, shop.plan(expect_image_id=shop.ids[was]), cut, "before" if cut == "DELETE" else "after")
    plan = shop.plan(target=shop.target(was), run_id="run-2", fence=2, expect_image_id=None)
    result = rerun(shop, plan)
    assert result["state"] in ("unchanged", "restored"), result
    assert (shop.override.read_bytes() if shop.override.exists() else None) == before
    settled(shop, was)


def test_an_undo_killed_at_the_pin_itself_is_finished_by_the_next_run(shop: Shop) -> None:
    kill_at(shop, shop.plan(), "DELETE", "before")
    assert shop.override.exists()
    plan = shop.plan(target=shop.target("web:1.1.0"), run_id="run-2", fence=2, expect_image_id=None)
    kill_while_the_file_is_held(shop, plan, "undo:unpin-project")
    assert shop.override.exists() and shop.runs("web:1.1.0")
    rerun(shop, plan)
    assert not shop.override.exists()
    settled(shop, "web:1.1.0")


@pytest.mark.parametrize("pin", [True, False], ids=["to be pinned", "not to be pinned"])
def test_an_up_while_a_rollback_is_prepared_does_no_harm(shop: Shop, pin: bool) -> None:
    if not pin:
        (shop.folder / "compose.override.yml").write_text("services: {web: {environment: {MINE: 'yes'}}}")
        shop.up()
    before = shop.web()["Id"]
    assert shop("prepare")["state"] == "planned"
    shop.up()
    assert shop.web()["Id"] == before and shop.runs("web:1.1.0")
    assert shop("swap")["state"] == "restored"
    settled(shop, "web:1.0.0")


@pytest.mark.parametrize("pin", [True, False], ids=["to be pinned", "not to be pinned"])
def test_a_deploy_while_a_rollback_is_prepared_wins(shop: Shop, pin: bool) -> None:
    if not pin:
        (shop.folder / "compose.override.yml").write_text("services: {web: {environment: {MINE: 'yes'}}}")
        shop.up()
    assert shop("prepare")["state"] == "planned"
    shop.says("web:moves")
    shop.up()
    assert shop("swap")["kind"] == "mismatch"
    shop("discard")
    settled(shop, "web:moves")


@pytest.mark.parametrize(
    ("cut", "when"),
    [
        ("POST rename shop-web-1.guard-prev", "after"),
        ("POST stop", "after"),
        ("POST start", "after"),
        ("DELETE", "before"),
    ],
)
def test_an_up_after_a_swap_was_killed_leaves_something_to_finish_it_with(shop: Shop, cut: str, when: str) -> None:
    kill_at(shop, shop.plan(), cut, when)
    shop.up()
    assert shop.engine.docker("ps", "-q", "--filter", "label=com.docker.compose.service=web"), "something runs"
    assert rerun(shop, shop.plan())["state"] == "restored"
    settled(shop, "web:1.0.0")
