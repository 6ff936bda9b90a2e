"""A rank's place among its peers, slots of masters, names of functions, what a rank says of itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparkml.compat.horovod import HorovodRendezvous, interface_of, rank_environment
from sparkml.distributed.channel import MAX_MESSAGE_BYTES
from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.rank import RankJob, _describe, entry_name
from sparkml.distributed.rendezvous import TorchRendezvous
from sparkml.distributed.reporter import COLLECTIVE, Reporter, WatchedCollective
from sparkml.distributed.slots import known_slots
from sparkml.distributed.supervisor import Place
from sparkml.errors import InputError, MissingToolError, UsageError
from sparkml.training.rank import train_rank

NAMES = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")


@pytest.mark.parametrize(
    ("hosts", "rank", "numbers"),
    [
        (["127.0.0.1"] * 2, 1, [1, 2, 1, 2, 0, 1]),
        # Three ranks on one host, one on another, mixed: rank 3 is the third of its host and alone at that place.
        (["127.0.0.1", "10.9.9.9", "127.0.0.1", "127.0.0.1"], 3, [3, 4, 2, 3, 0, 1]),
        (["10.9.9.9", "127.0.0.1"], 1, [1, 2, 0, 1, 1, 2]),
    ],
)
def test_places_for_horovod(hosts, rank, numbers):
    found = rank_environment(rank, hosts, ("127.0.0.1", 4242), 60)
    assert [int(found[f"HOROVOD_{name}"]) for name in NAMES] == numbers
    assert found["HOROVOD_GLOO_IFACE"] == "lo"
    assert (found["HOROVOD_GLOO_RENDEZVOUS_ADDR"], found["HOROVOD_GLOO_RENDEZVOUS_PORT"]) == (
        "127.0.0.1",
        "4242",
    )


def test_an_address_of_another_machine_has_no_interface_here():
    with pytest.raises(MissingToolError, match=r"10\.9\.9\.9"):
        interface_of("10.9.9.9")


@pytest.mark.parametrize("kind", [HorovodRendezvous, TorchRendezvous])
def test_rendezvous_listens_on_one_interface_only(kind):
    rendezvous = kind("127.0.0.1")
    rendezvous.meet(["127.0.0.1"])
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [fields[1] for fields in sockets if fields[3] == "0A"]
    port = f"{rendezvous.port:04X}"
    rendezvous.close()
    assert [address for address in listening if address.endswith(port)] == [f"0100007F:{port}"]


class _Session:
    def __init__(self, **conf: str) -> None:
        self.conf = {name.replace("__", "."): value for name, value in conf.items()}


@pytest.mark.parametrize(
    ("conf", "slots"),
    [
        ({"spark__master": "local"}, 1),
        ({"spark__master": "local[3]"}, 3),
        ({"spark__master": "local[4, 2]", "spark__task__cpus": "2"}, 2),
        ({"spark__master": "local-cluster[2,3,1024]", "spark__task__cpus": "2"}, 2),
        ({"spark__master": "yarn", "spark__executor__instances": "3", "spark__executor__cores": "4"}, 12),
        ({"spark__master": "yarn"}, None),
        (
            {
                "spark__master": "k8s://x",
                "spark__executor__instances": "1",
                "spark__executor__cores": "4",
                "spark__dynamicAllocation__enabled": "true",
            },
            None,
        ),
    ],
)
def test_slots_that_the_configuration_fixes(conf, slots):
    assert known_slots(_Session(**conf)) == slots


def test_functions_are_named_by_module():
    assert entry_name(train_rank) == "sparkml.training.rank:train_rank"
    with pytest.raises(UsageError, match="top of an importable module"):
        entry_name(lambda payload, collective, reporter: {})


def test_a_reporter_says_where_the_rank_is():
    channel = io.StringIO()
    reporter = Reporter(None)
    reporter._channel = channel
    group = WatchedCollective(SingleProcess(), reporter)
    phases = []
    group._inner.allreduce_ = lambda tensor: phases.append(reporter.phase)
    group.allreduce_(torch.ones(1))
    phases.append(reporter.phase)
    reporter.progress(2, 5, loss=0.5)
    reporter.beat()
    said = [json.loads(line) for line in channel.getvalue().splitlines()]
    assert phases == ["collective", "work"]
    assert (
        said[0]["beat"]["phase"] == "collective"
    )  # at once: only while it starts may a rank be silent for long
    assert said[1] == {"progress": {"step": 2, "total": 5, "values": {"loss": 0.5}}}
    assert said[2]["beat"]["step"] == 2


def test_a_rank_whose_group_is_gone_is_a_victim_when_it_only_begins_to_send():
    class Gone(SingleProcess):
        def start_allreduce(self, tensor, name):
            raise RuntimeError("Horovod has been shut down")

    reporter = Reporter(None)
    with pytest.raises(RuntimeError):
        WatchedCollective(Gone(), reporter).start_allreduce(torch.ones(1), "gradients.0")
    assert reporter.phase == COLLECTIVE


def test_a_rank_ends_with_its_supervisor(tmp_path):
    job = RankJob("time:sleep", {}, "torch", True, 0, 1, 0, ("127.0.0.1", 1), None, 1, os.getpid(), 5)
    file = tmp_path / "job.json"
    file.write_text(replace(job, supervisor_pid=1).to_json())
    orphan = subprocess.run(
        [sys.executable, "-m", "sparkml.distributed.rank", str(file)], check=False, timeout=60
    )
    assert orphan.returncode == 1


@pytest.mark.parametrize(
    ("hosts", "numbers"),
    [(["a", "a", "a"], [0, 1, 2]), (["a", "b", "a", "b"], [0, 0, 1, 1]), (["a", "b", "c"], [0, 0, 0])],
)
def test_ranks_are_numbered_on_each_host(hosts, numbers):
    places = [Place(rank, hosts, ("a", 1), None) for rank in range(len(hosts))]
    assert [place.local_rank for place in places] == numbers


def test_the_watched_collective_passes_the_local_rank_on():
    inner = SingleProcess()
    inner.local_rank = 3
    assert WatchedCollective(inner, Reporter(None)).local_rank == 3


def test_a_long_error_fits_into_a_message():
    told = _describe(InputError("w" * 3_000_000, got="\U0001f600" * 3_000_000))
    assert told["kind"] == "InputError"
    assert len(json.dumps({"error": told})) < MAX_MESSAGE_BYTES
