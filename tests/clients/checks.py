"""Counts named checks and prints one line for each: all that a client script reports."""

import time
import traceback

passed = 0
failed = 0


def check(name, holds, detail=""):
    """Records one check. `detail` is shown when it does not hold; never pass a token in it."""
    global passed, failed
    if holds:
        passed += 1
        print(f"ok - {name}", flush=True)
    else:
        failed += 1
        print(f"FAILED - {name}{': ' if detail else ''}{detail}", flush=True)
    return holds


def add(more_passed, more_failed):
    """Adds the counts of another script."""
    global passed, failed
    passed += more_passed
    failed += more_failed


def crashed():
    """Records the exception being handled as one failed check."""
    check("the script runs to its end", False, traceback.format_exc())


def wait_until(condition, seconds, step=0.05):
    """Polls `condition` until it is true or `seconds` have passed; returns its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(step)
    return value


def summary():
    """Prints the closing line and returns the exit code."""
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0
