"""``python -m bench.bare_ssh FILE``: the restore module sent by one ssh process per host and mode, and nothing else.

FILE is JSON: ``module`` (path), ``forks``, ``ssh`` ({HOST: argv}), ``modes`` (each on all hosts before the next) and
``plans`` ({HOST: plan}). Prints when the last host's last answer came (seconds since the epoch).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PLACEHOLDER = "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"
_LONGEST_S = 120


def main(asked: dict[str, object]) -> float:
    """RuntimeError when the module did not restore on some host."""
    source = Path(str(asked["module"])).read_text()
    ssh, plans, modes = asked["ssh"], asked["plans"], asked["modes"]
    assert isinstance(ssh, dict)
    assert isinstance(plans, dict)
    assert isinstance(modes, list)

    def call(host: str, mode: str) -> None:
        given = source.replace(_PLACEHOLDER, json.dumps({"mode": mode, "plan": plans[host]}))
        done = subprocess.run(
            [*ssh[host], "/usr/bin/python3 -"],
            input=given,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
        state = json.loads(done.stdout)["state"] if done.stdout else done.stderr
        if state != {"swap": "restored", "prepare": "planned"}[mode]:
            raise RuntimeError(f"{host}: {mode} ended with {state}\n{done.stdout}")

    with ThreadPoolExecutor(max_workers=int(str(asked["forks"]))) as pool:
        for mode in modes:
            for done in [pool.submit(call, host, mode) for host in ssh]:
                done.result()
    return time.time()


if __name__ == "__main__":
    print(main(json.loads(Path(sys.argv[1]).read_text())))
