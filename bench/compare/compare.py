#!/usr/bin/env python3
"""Runs the side-by-side bench with this gateway's own access tokens where the peers are sent JWTs.

    compare.py PERF_DIRECTORY ARGUMENTS…      PERF_DIRECTORY holds the bench's compare.py; the arguments are its own

Only what is sent to `octelium` differs; the checks (good, forged, of another user …) are the same. Over HTTP/2 it is asked for its
host by name, which the peers don't look at.
"""
import contextlib
import json
import os
import runpy
import sys

perf = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, perf)
import perfcore  # noqa: E402
import scenarios  # noqa: E402

NAME = "octelium"


@contextlib.contextmanager
def own_tokens(instance):
    file = os.path.join(instance.dir, "tokens.json")
    if instance.peer != NAME or not os.path.exists(file):
        yield
        return
    theirs, their_list = dict(scenarios.tokens()), scenarios.jwt_list
    ours = json.load(open(file))

    def our_list():
        path = os.path.join(instance.dir, "jwtmany.txt")
        with open(path, "w") as out:
            for token in ours["many"]:
                out.write(f"bench.local\t/api/b/1024\tauthorization: Bearer {token}\n")
        return path

    scenarios._t.update(ours)
    scenarios.jwt_list = our_list
    try:
        yield
    finally:
        scenarios._t.clear()
        scenarios._t.update(theirs)
        scenarios.jwt_list = their_list


def wrap(scenario):
    check = scenario.check

    def checked(instance):
        with own_tokens(instance):
            return check(instance)

    scenario.check = checked


for scenario in scenarios.ALL.values():
    if scenario.name.startswith("jwt"):
        wrap(scenario)
arguments = scenarios.S.lg_args


def lg_args(self, instance):
    with own_tokens(instance):
        return arguments(self, instance)


scenarios.S.lg_args = lg_args
window = perfcore.h2_window


def h2_window(process, url, *more, **named):
    if process.name.startswith(NAME + "-"):
        more = list(more)
        # After the upstream, the time, connections and streams come the headers.
        more[4] = [*more[4], ":authority: bench.local"]
    return window(process, url, *more, **named)


perfcore.h2_window = h2_window
sys.argv[0] = os.path.join(perf, "compare.py")
runpy.run_path(sys.argv[0], run_name="__main__")
