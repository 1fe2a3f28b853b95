"""``python playbooks/assemble.py [--check]``: makes the one-file modules in ``*/VERSION/library`` from ``parts/``.

A module that takes its arguments without AnsibleModule is one file (see ``parts/guard_container.py``), and several
playbooks need the same engine client, lock and journal. So people read and change ``parts/``, a package with imports
like any other, and this puts each module's parts together: those it needs, in the order of their imports. The digests
in the manifests are written anew too. Only the newest version of a playbook is made; older ones never change again.

The strategies differ in their module alone, so the playbooks of ``container`` are those of the others too.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = HERE / "parts"
FIRST = "container"  # whose playbooks the other strategies share
HEAD = (
    "#!/usr/bin/python3\n# SPDX-License-Identifier: Apache-2.0\n# Made by playbooks/assemble.py from playbooks/parts\n"
)


def assembled(name: str) -> str:
    """The module ``name`` with everything it imports from ``parts``."""
    order: list[str] = []
    needs(name, order)
    imports: set[str] = set()
    bodies: list[str] = []
    docstring = ""
    for part in order:
        source = (PARTS / f"{part}.py").read_text()
        tree = ast.parse(source)
        lines = source.splitlines(keepends=True)
        first, *rest = tree.body
        docstring = "".join(lines[first.lineno - 1 : first.end_lineno])
        dropped = set(range(first.lineno, (first.end_lineno or 0) + 1))
        for node in rest:
            if isinstance(node, ast.Import):
                imports.update(f"import {alias.name}" for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module != "__future__":
                raise SystemExit(f"parts/{part}.py: write `import {node.module}`, not `from {node.module} import`")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                dropped.update(range(node.lineno, (node.end_lineno or 0) + 1))
        body = "".join(line for number, line in enumerate(lines, 1) if number not in dropped).strip("\n")
        bodies.append(f"# {f' {part}.py':->117}\n\n{body}")
    beginning = f"{HEAD}{docstring}\nfrom __future__ import annotations\n\n" + "\n".join(sorted(imports))
    return "\n\n\n".join([beginning, *bodies]) + "\n"


def needs(name: str, order: list[str]) -> None:
    """Append ``name`` behind everything it imports."""
    if name in order:
        return
    for node in ast.parse((PARTS / f"{name}.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            needs(node.module, order)
    order.append(name)


def made(folder: Path) -> dict[Path, str]:
    """Everything in a version folder that is made: its module, and the playbooks it shares with ``container``."""
    (module,) = (folder / "library").glob("*.py")
    files = {module: assembled(module.stem)}
    first = next(version for version in newest() if version.parent.name == FIRST)
    if folder != first:
        for path in (*first.glob("*.yml"), *first.glob("tasks/*.yml"), *first.glob("action_plugins/*.py")):
            if path.name != "manifest.yml":
                text = path.read_text().replace(f"guard_{FIRST}:", f"{module.stem}:")
                files[folder / path.relative_to(first)] = text
    return files


def newest() -> list[Path]:
    """The newest version folder of each playbook that has modules of ours."""
    found: dict[str, Path] = {}
    for folder in HERE.glob("*/*.*.*/library"):
        version = folder.parent
        known = found.get(version.parent.name)
        if known is None or key(known) < key(version):
            found[version.parent.name] = version
    return sorted(found.values())


def key(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.name.split("."))


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(HERE.parent))
    from guard.rollback.catalog import MANIFEST, digest_of, read_files, write_digest

    stale = []
    for folder in newest():
        for path, text in made(folder).items():
            if not path.exists() or path.read_text() != text:
                stale.append(path)
                if "--check" not in arguments:
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text)
        if f"digest: {digest_of(dict(read_files(folder)))}" not in (folder / MANIFEST).read_text():
            stale.append(folder / MANIFEST)
            if "--check" not in arguments:
                write_digest(folder)
    if stale and "--check" in arguments:
        names = ", ".join(str(path.relative_to(HERE.parent)) for path in stale)
        sys.stderr.write(f"not what playbooks/parts makes: {names}\n  run: python playbooks/assemble.py\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
