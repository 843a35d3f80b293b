"""Two hosts: ranks in two network namespaces, which a virtual cable joins.

Skipped where no namespaces can be made: that takes root, Linux and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import mpi
import numpy as np
import pytest
import rank_jobs

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
ADDRESSES = ("10.77.5.1", "10.77.5.2")
# What stands for a remote shell: HOST COMMAND...
SHELL = """#!/bin/sh
host=$1
shift
exec ip netns exec {name}${{host##*.}} sh -c "$*"
"""
# Messages go by TCP and by the wire, for which an MPI that chooses for itself may take the loopback;
# between ranks of one host too, would there be any.
OVER_TCP = {"MPIR_CVAR_CH4_NETMOD": "ucx", "UCX_TLS": "tcp,self",
            "UCX_NET_DEVICES": "wire", "MPIR_CVAR_NOLOCAL": "1"}


def ip(words):
    """Run a command of iproute2: the error's text, "" for none."""
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
    return done.stderr.strip() or f"ip {words} failed" if done.returncode else ""


def _carries(host):
    """Whether a host's end of the wire is up, within some seconds."""
    for _ in range(100):
        shown = subprocess.run(["ip", "-n", host, "-br", "link", "show", "wire"],
                               capture_output=True, text=True).stdout
        if "LOWER_UP" in shown and " UP " in shown:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """What `mpi.start` needs to start a rank on each of two hosts."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and iproute2")
    name = f"nbbn{os.getpid()}h"
    first, second = (f"{name}{k}" for k in (1, 2))
    commands = [f"netns add {first}", f"netns add {second}",
                f"link add wire netns {first} type veth peer name wire netns {second}"]
    for host, address in zip((first, second), ADDRESSES):
        commands += [f"-n {host} address add {address}/24 dev wire",
                     f"-n {host} link set wire up", f"-n {host} link set lo up"]
    try:
        for command in commands:
            if failed := ip(command):
                pytest.skip(f"no network namespaces here: {failed}")
        if not all(_carries(host) for host in (first, second)):
            pytest.skip("no network namespaces here: the wire between two stays down")
        shell = tmp_path_factory.mktemp("hosts") / "shell"
        shell.write_text(SHELL.format(name=name))
        shell.chmod(0o700)
        flags = ["-launcher", "rsh", "-launcher-exec", str(shell), "-localhost", ADDRESSES[0],
                 "-hosts", ",".join(ADDRESSES), "-ppn", "1"]
        yield {"before": ["ip", "netns", "exec", first], "flags": flags, "env": OVER_TCP}
    finally:
        for host in (first, second):
            ip(f"netns delete {host}")  # and its end of the wire


def test_two_hosts_fit_as_one(hosts):
    """By the wire alone: a namespace has no other way out."""
    names = ["adam", "early stopping"]
    first, second = mpi.run("mpich", 2, "cases_and_place", names, [9, 3], **hosts).results
    assert [first["addresses"], second["addresses"]] == [[address] for address in ADDRESSES]
    assert first["ranks here"] == second["ranks here"] == 1
    for name in names:
        model = rank_jobs.fitted_alone(name)
        for figure, values in rank_jobs.curves(model).items():
            np.testing.assert_allclose(first[name]["curves"][figure], values, rtol=1e-12)
        np.testing.assert_allclose(first[name]["weights"], rank_jobs.weights_of(model), rtol=1e-9,
                                   atol=1e-9)
        assert second[name]["digest"] == first[name]["digest"]


def test_a_host_that_dies_ends_the_job_and_the_next_goes_on(hosts, tmp_path):
    path = str(tmp_path / "checkpoint")
    assert mpi.run("mpich", 2, "checkpointed", path, [1, 1], 8, 1, **hosts).status != 0
    assert (tmp_path / "checkpoint").exists()
    found = mpi.run("mpich", 2, "checkpointed", path, [1, 1], 8, **hosts).results
    expected = mpi.run("mpich", 1, "checkpointed", None, [1], 8).results[0]
    assert found == [expected, expected]
