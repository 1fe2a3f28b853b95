"""A Compose project on this host: its folder and files, and guard's pin in them.

The pin is an override file, ``compose.override.yml`` or as the main file's name has it, which a plain ``docker compose``
in the folder reads as well. It is written by guard alone and as a whole, so that guard knows its own file again, byte by
byte; a file that anybody else wrote or changed is never touched. It holds one entry for each pinned service.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time

from .problems import Problem

LABEL = "com.docker.compose."
PIN_LABEL = "deployment-guard.pin"
SERVICE = re.compile(r"[a-zA-Z0-9._-]{1,255}\Z")
# What Compose looks for in a folder, in its order; of each kind it takes the first that is there.
MAIN_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_NAMES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
ENTRY_KEYS = {"service", "image", "local", "rollback", "instead_of", "instead_of_id", "over", "at"}
LARGEST_BYTES = 256 * 1024
FILE_LOCK_WAIT_S = 10.0
CLI_TIMEOUT_S = 10
HEADER = """\
# guard wrote this file when it rolled back services of this Compose project, so that the next `docker compose up` keeps
# what was restored. Read this before you deploy: as long as a service is listed here, its image is the one below,
# whatever the other files say.
# How it goes: `guard snapshot` before the next deploy takes its service out. By hand: delete this file.
# Whoever names the files of the project with -f must name this one too, behind the others.
services:
"""


def entry_text(entry):
    """One service of the file. The comment holds the entry itself; everything follows from it."""
    lines = [
        "  # guard: " + json.dumps(entry, sort_keys=True),
        "  {}:".format(json.dumps(entry["service"])),
        "    image: {}".format(json.dumps(entry["image"])),
    ]
    if entry["local"]:  # a tag that no registry has: nothing to pull
        lines.append("    pull_policy: never")
    lines += ["    labels:", "      {}: {}".format(PIN_LABEL, json.dumps(entry["rollback"]))]
    return "\n".join(lines) + "\n"


def file_text(entries):
    return HEADER + "".join(entry_text(entries[service]) for service in sorted(entries))


def entries_of(text):
    """{service: entry} of guard's own file; None when anybody else wrote or changed it."""
    entries = {}
    for line in text.splitlines():
        if line.startswith("  # guard: "):
            try:
                entry = json.loads(line[len("  # guard: ") :])
            except ValueError:
                return None
            if not isinstance(entry, dict) or set(entry) != ENTRY_KEYS:
                return None
            entries[str(entry["service"])] = entry
    return entries if entries and file_text(entries) == text else None


def compose_unit(value):
    """An acceptor (see accept.py): {project, service}."""
    given = value.values() if isinstance(value, dict) and set(value) == {"project", "service"} else [None]
    if not all(isinstance(name, str) and SERVICE.match(name) for name in given):
        raise ValueError("must be a mapping of project and service, both names")
    return value


def text_of(name):
    """The text of a file; None when there is none, or it can't be read as text."""
    try:
        with open(name, "rb") as file:
            return file.read(LARGEST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


class Project:
    """The project of a service, as the labels of its container tell it."""

    def __init__(self, labels, name, service):
        self.name, self.service = name, service
        self.folder = labels.get(LABEL + "project.working_dir") or ""
        self.files = [file for file in (labels.get(LABEL + "project.config_files") or "").split(",") if file]
        self.known_hash = labels.get(LABEL + "config-hash")
        self.main = next((found for found in map(self.beside, MAIN_NAMES) if os.path.exists(found)), None)
        self.override, self.obstacle = self.place()

    def beside(self, name):
        return os.path.join(self.folder, name)

    def place(self):
        """(the override file, None), or (None, why there can be none that the next ``docker compose up`` reads)."""
        if not SERVICE.match(self.service) or not os.path.isabs(self.folder) or not self.files:
            return None, "its container does not say which files it was made from"
        missing = [file for file in self.files if not os.path.exists(file) and not self.could_be_ours(file)]
        if missing:
            return None, f"{missing[0]} is not on this host"
        if re.search(r"^\s*(export\s+)?COMPOSE_FILE\s*[=:]", text_of(self.beside(".env")) or "", re.MULTILINE):
            return None, "COMPOSE_FILE in {} says which files are read".format(self.beside(".env"))
        present = [found for found in map(self.beside, OVERRIDE_NAMES) if os.path.lexists(found)]
        if present and entries_of(text_of(present[0]) or "") is None:
            return None, f"{present[0]} is there already and is not guard's"
        stem, ending = os.path.splitext(self.main or "")
        override = present[0] if present else stem + ".override" + ending
        if [file for file in self.files if file != override] != [self.main]:
            return None, "it was started with files of its own: " + ", ".join(self.files)
        if not os.access(self.folder, os.W_OK):
            return None, f"{self.folder} can't be written to"
        return override, None

    def could_be_ours(self, file):
        """An override that is gone: guard's own of an earlier rollback, taken out since."""
        return os.path.dirname(file) == self.folder and os.path.basename(file) in OVERRIDE_NAMES

    # -- guard's file

    def entries(self):
        return (entries_of(text_of(self.override) or "") or {}) if self.override else {}

    def entry(self):
        """What guard has pinned the service to, or None."""
        return self.entries().get(self.service)

    def put(self, entry):
        """Pin the service, or with None take its pin out; other services' pins stay. Problem when it can't be done."""
        if self.override is None:
            raise Problem("compose", self.obstacle)
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.lock(folder)
                if os.path.lexists(self.override) and entries_of(text_of(self.override) or "") is None:
                    raise Problem("compose", f"{self.override} was changed by somebody else meanwhile")
                if self.entry() == entry:
                    return
                entries = self.with_entry(entry)
                if entries:
                    self.replace(file_text(entries))
                else:
                    os.unlink(self.override)
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as wrong:
            raise Problem("compose", f"{self.override} can't be written: {wrong}") from wrong

    def lock(self, folder):
        """Services of one project may be rolled back at the same time: one at a time on their one file."""
        until = time.monotonic() + FILE_LOCK_WAIT_S
        while True:
            try:
                return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def replace(self, text):
        """The old or the new file, whole, after a power cut; with the owner and the mode of the main file."""
        new = self.beside(f".{os.path.basename(self.override)}.guard-new")
        if os.path.lexists(new):
            os.unlink(new)
        like = os.stat(self.main)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:
                os.fchown(handle, like.st_uid, like.st_gid)
            os.fchmod(handle, like.st_mode & 0o664)
            os.write(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(new, self.override)

    # -- Compose's own view

    def hash_with(self, entry):
        """The config-hash of the service once ``entry`` is put; None when Compose is not here to say it, or when the
        files are not any more what the running container was made from.
        """
        if self.known_hash is None or self.config_hash(self.files, None) != self.known_hash:
            return None
        entries = self.with_entry(entry)
        return self.config_hash([self.main], file_text(entries) if entries else None)

    def files_with(self, entry):
        """The project's files once ``entry`` is put, as Compose writes them into a label."""
        return ",".join([self.main, self.override] if self.with_entry(entry) else [self.main])

    def with_entry(self, entry):
        entries = self.entries()
        entries.pop(self.service, None)
        if entry is not None:
            entries[self.service] = entry
        return entries

    def config_hash(self, files, more):
        """What ``docker compose config --hash`` says of the service; ``more`` is one further file's text."""
        import subprocess

        named = [part for file in files + (["-"] if more else []) for part in ("-f", file)]
        project = ["--project-name", self.name, "--project-directory", self.folder]
        command = ["docker", "compose", *project, *named, "config", "--hash", self.service]
        try:
            done = subprocess.run(
                command,
                input=(more or "").encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
                timeout=CLI_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        found = re.search(rf"^{re.escape(self.service)} ([0-9a-f]{{64}})$", done.stdout.decode(), re.MULTILINE)
        return found.group(1) if found and done.returncode == 0 else None
