"""Runs a script of this folder again and again, each time in a fresh fork of a process that has imported everything already.

    python benchmarks/forked.py ours.py

A line of JSON on stdin asks for a run (`arguments`, and the files that its `stdout` and `stderr` go to), a line on stdout says how it
ended. A fork has its own memory and its own threads, as a process of its own would, but not its seconds of importing.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback


def main() -> None:
    """Import, then serve until stdin closes."""
    script = sys.argv[1]
    module = importlib.import_module(script.removesuffix(".py"))
    for name in module.IMPORTS:  # nothing is computed yet: threads would not come along
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)
            continue
        code = 1
        try:  # the child: nothing of this may return to the loop
            for number, name in ((1, asked["stdout"]), (2, asked["stderr"])):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            sys.argv = [script, *asked["arguments"]]
            module.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            print(ended.code or "", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


if __name__ == "__main__":
    main()
