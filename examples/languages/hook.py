"""No guest starts without a title: a hook in Python."""

import sys

from wit_world import exports
from wit_world.imports.exit import exit_with_code


class Run(exports.Run):
    def run(self) -> None:
        if sys.argv[2:3] != ["start"]:
            return
        if "<title>" not in sys.stdin.read():
            guest = sys.argv[1]
            print(f"guest {guest} has no title: virsh desc {guest} --config --title TITLE", file=sys.stderr)
            exit_with_code(3)
