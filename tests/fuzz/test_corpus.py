"""Every committed input is borne by its target, and the fuzzer itself finds what is wrong."""

import contextlib
import random
from collections import Counter

import pytest

from kwik.errors import RemoteProtocolError
from tests.fuzz import cores, corpus, run, targets
from tests.fuzz.mutate import hostile

FILES = corpus.files()


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_the_corpus_is_borne(path):
    name = corpus.target_of(path)
    with contextlib.suppress(RemoteProtocolError):
        targets.TARGETS[name](path.read_bytes())


def test_there_is_a_corpus_for_every_decoder():
    assert {corpus.target_of(path) for path in FILES} >= {
        "client-control",
        "client-data",
        "server-control",
        "server-data",
    }


def test_all_that_reads_bytes_of_strangers_is_a_target():
    assert set(targets.TARGETS) == {
        *("client-control", "client-data", "server-control", "server-data"),
        *("client-core", "server-core", "http-head", "link-control", "mdns-txt", "quic-demux"),
    }


def test_the_cores_get_far_enough_to_be_worth_it(monkeypatch):
    """The scripts open streams, and bytes reach applications on both sides."""
    seen: Counter[tuple[str, str]] = Counter()
    on_server, on_client = cores.ServerStage.on_action, cores.ClientStage.on_action

    def count(original):
        def on_action(self, action):
            seen[type(self).__name__, type(action).__name__] += 1
            original(self, action)

        return on_action

    monkeypatch.setattr(cores.ServerStage, "on_action", count(on_server))
    monkeypatch.setattr(cores.ClientStage, "on_action", count(on_client))
    for script in cores.SCRIPTS:
        cores.server_core(script)
        cores.client_core(script)
    wanted = [("ServerStage", kind) for kind in ("Accept", "PortReadable", "PortWritable", "PortReset")]
    wanted += [("ClientStage", kind) for kind in ("OpenPath", "StreamSent", "StreamConfirmed", "PortReadable")]
    assert {kind for kind in wanted if not seen[kind]} == set()


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_a_few_hostile_inputs_are_borne(name):
    dice, seeds = random.Random(f"kwik {name}"), corpus.seeds(name)
    for _ in range(40 if name.endswith("-core") else 150):
        octets = hostile(dice, seeds)
        try:
            targets.TARGETS[name](octets)
        except RemoteProtocolError:
            pass
        except Exception as error:
            raise AssertionError(f"{name} fails on {octets.hex()}") from error


def test_a_finding_is_saved_and_ends_the_run_with_1(tmp_path, monkeypatch, capsys):
    def fails(octets):
        raise IndexError("found")

    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "corpus")
    monkeypatch.setitem(targets.TARGETS, "fails", fails)
    assert run.main(["--seconds", "30", "--seed", "1", "--target", "fails"]) == 1
    saved = corpus.files()
    assert 1 <= len(saved) <= run.MAX_FINDINGS
    assert {corpus.target_of(path) for path in saved} == {"fails"}
    assert "IndexError: found" in capsys.readouterr().out


def test_a_refusal_is_no_finding(monkeypatch, capsys):
    def refuses(octets):
        raise RemoteProtocolError(2)

    monkeypatch.setitem(targets.TARGETS, "refuses", refuses)
    assert run.main(["--seconds", "0.01", "--seed", "1", "--target", "refuses"]) == 0
    assert "0 findings" in capsys.readouterr().out


def test_a_file_for_no_target_and_a_second_target_of_a_name_are_errors(tmp_path):
    with pytest.raises(KeyError, match="no target"):
        corpus.target_of(tmp_path / "nobody-0123.bin")
    with pytest.raises(ValueError, match="two targets"):
        targets.target("client-data")(print)
