# SPDX-License-Identifier: LGPL-2.1-or-later
# test_sums.py — counts the results in a log of `meson test` and shows the output of failed tests.
#   python3 test_sums.py meson-logs/testlog.json    prints: PASSED FAILED SKIPPED
import json
import sys

GOOD = ("OK", "EXPECTEDFAIL")
LEFT_OUT = ("SKIP", "IGNORED")
SHOWN_LINES = 60


def main():
    counts = [0, 0, 0]
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        for line in log:
            test = json.loads(line)
            result = test["result"]
            counts[0 if result in GOOD else 2 if result in LEFT_OUT else 1] += 1
            if result in GOOD or result in LEFT_OUT:
                continue
            print(f"--- {test['name']}: {result}", file=sys.stderr)
            for stream in ("stdout", "stderr"):
                for text in test.get(stream, "").splitlines()[-SHOWN_LINES:]:
                    print("    " + text, file=sys.stderr)
    print(*counts)


if __name__ == "__main__":
    main()
