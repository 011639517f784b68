"""``conformance package``, ``verify`` and ``merge``: what is doctored or partial is refused."""

import copy
import hashlib
import json
import shutil
import tomllib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from example_runs import failed, make_run, passed

from accelsdk.cli.main import main
from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.replay import FORMAT, folder_name
from accelsdk_conformance.report.data import as_json, identity
from accelsdk_conformance.report.derive import derived
from accelsdk_conformance.report.files import as_text, write_data, write_reports
from accelsdk_conformance.report.html import render
from accelsdk_conformance.report.junit import as_junit
from accelsdk_conformance.report.merge import merge
from accelsdk_conformance.result import Status
from accelsdk_conformance.submission.package import Statement, package, statement_text
from accelsdk_conformance.submission.verify import verify
from accelsdk_conformance.waivers import Waiver

STATEMENT = Statement(
    vendor="Acme", product='NPU "7"', version="1.2", signer="J. Doe <j@acme.example>"
)


@pytest.fixture
def folder(whole, tmp_path):
    write_data(as_json(whole), {r.id: 0.25 for r in whole.results}, tmp_path / "report")
    return tmp_path / "report"


@pytest.fixture(scope="session")
def sound(device_cases, tmp_path_factory):
    run = make_run(device_cases, map(passed, device_cases), profiles=(Profile.DEVICE,))
    folder = tmp_path_factory.mktemp("sound")
    write_data(as_json(run), {r.id: 0.25 for r in run.results}, folder / "report")
    package(folder / "report", STATEMENT, bundled(), folder / "package.zip")
    return (folder / "package.zip").read_bytes()


@pytest.fixture
def made(sound, tmp_path):
    (tmp_path / "package.zip").write_bytes(sound)
    return tmp_path / "package.zip"


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, files, rehash=True):
    """Packs files again, with hashes that fit them: the doctor knows the layout."""
    files = dict(files)
    if rehash:
        manifest = json.loads(files["MANIFEST.json"])
        manifest["files"] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in files.items()
            if name != "MANIFEST.json"
        }
        files["MANIFEST.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def redo(path, change, derive=True):
    """Edits the report, and makes everything else anew that follows from it."""
    files = contents(path)
    report = json.loads(files["report.json"])
    cases = [Case.from_json(line) for line in files["cases.jsonl"].decode().splitlines()]
    cases = change(report, cases) or cases
    if derive:
        claims = [(c["field"], c["entry"], c["value"]) for c in report["claims"]]
        report |= derived(report, claims)
        report["suite"] |= identity(cases)
    timing = {}
    files |= {
        "report.json": as_text(report).encode(),
        "cases.jsonl": "".join(case.to_json() + "\n" for case in cases).encode(),
        "statement.toml": statement_text(STATEMENT, report).encode(),
        "timing.json": json.dumps(timing).encode(),
        "junit.xml": as_junit(report, timing).encode(),
        "report.html": render(report).encode(),
    }
    rewrite(path, files)


def refused(path):
    found = verify(path).problems
    assert found
    return "\n".join(f"{where}: {what}" for where, what in found)


def test_a_sound_package_is_verified(made, whole, capsys):
    found = verify(made)
    assert found.problems == ()
    assert found.statement["product"] == 'NPU "7"'
    assert found.digest == hashlib.sha256(made.read_bytes()).hexdigest()
    statement = tomllib.loads(contents(made)["statement.toml"].decode())
    assert statement["cases"] == len(whole.results)
    assert main(["conformance", "verify", str(made)]) == 0
    assert "VERIFIED" in capsys.readouterr().out


def test_doctoring_that_changes_nothing_is_no_doctoring(made):
    redo(made, lambda report, cases: None)
    assert verify(made).problems == ()


def test_equal_reports_give_equal_packages(folder, made, tmp_path):
    package(folder, STATEMENT, bundled(), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    "name", ["report.json", "report.html", "junit.xml", "cases.jsonl", "timing.json",
             "statement.toml", "MANIFEST.json"],
)  # fmt: skip
def test_every_file_is_needed_and_every_byte_of_it_counts(made, name):
    files = contents(made)
    rewrite(made, {k: v for k, v in files.items() if k != name}, rehash=False)
    assert f"{name}: is missing" in refused(made)
    if name != "MANIFEST.json":
        rewrite(made, files | {name: files[name] + b" "}, rehash=False)
        assert f"{name}: is not what was packaged" in refused(made)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a\\..\\b", "C:evil", "sub/../../evil", "extra.txt"]
)
def test_a_foreign_file_is_named_and_nothing_is_unpacked(made, name):
    rewrite(made, contents(made) | {name: b"x"})
    text = refused(made)
    assert name in text
    assert ("leads out of the package" in text) == (name != "extra.txt")


def test_one_name_twice_is_refused(made):
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(made, "a") as archive,
    ):
        archive.writestr("report.json", b"{}")
    assert "2 times" in refused(made)


def test_a_link_is_refused(made):
    files = contents(made)
    data = files.pop("report.html")
    rewrite(made, files | {"report.html": data})
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        entry = zipfile.ZipInfo("report.html")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert "report.html: is a link" in refused(made)


WAIVER = Waiver("device/*", "known", "https://x", expected=False)


@pytest.fixture(scope="session")
def excused_folder(device_cases, tmp_path_factory):
    """A report with a waived failure, its replay folder, and a folder that is of no result."""
    first, *others = device_cases
    waived = replace(
        failed(first, folder=folder_name(first.id)),
        status=Status.WAIVED,
        reason="known (https://x)",
    )
    results = [waived, *map(passed, others)]
    run = make_run(device_cases, results, profiles=(Profile.DEVICE,), waivers=(WAIVER,))
    folder = tmp_path_factory.mktemp("excused") / "report"
    write_reports(run, folder)
    for name in (folder_name(first.id), "stale"):
        replay = folder / "replay" / name
        replay.mkdir(parents=True)
        for stem in ("operands", "expected", "actual"):
            np.savez(replay / f"{stem}.npz", operand0=np.arange(7))
        said = {"case": json.loads(first.to_json()), "plugin": "acme", "options": {"speed": "fast"}}
        (replay / "problem.json").write_text(json.dumps(said | {"format": FORMAT, "seed": 0}))
        (replay / "README.txt").write_text("how to run it")
    return folder


@pytest.fixture
def excused(excused_folder, tmp_path):
    package(excused_folder, STATEMENT, bundled(), tmp_path / "excused.zip")
    return tmp_path / "excused.zip"


def kept_of(path):
    return sorted(name for name in contents(path) if name.startswith(("replay/", "failures/")))


def test_what_is_kept_of_excused_failures_is_packaged_with_hashes(excused, device_cases):
    name = folder_name(device_cases[0].id)
    parts = ("README.txt", "actual.npz", "expected.npz", "operands.npz", "problem.json")
    assert kept_of(excused) == [f"failures/{name}.json", *(f"replay/{name}/{p}" for p in parts)]
    assert set(kept_of(excused)) < set(json.loads(contents(excused)["MANIFEST.json"])["files"])
    assert verify(excused).problems == ()


def test_every_byte_of_a_replay_folder_counts(excused):
    files = contents(excused)
    for name in kept_of(excused):
        rewrite(excused, files | {name: files[name] + b" "}, rehash=False)
        assert f"{name}: is not what was packaged" in refused(excused)


DOCTORED = {
    "README.txt": (None, "is missing"),
    "operands.npz": (b"PK", "holds no arrays"),
    "actual.npz": (None, "is missing"),
    "problem.json": (b"{}", "is no stored problem"),
}


@pytest.mark.parametrize("part", DOCTORED)
def test_a_doctored_replay_file_is_refused_though_its_hash_fits(excused, part):
    files, (data, why) = contents(excused), DOCTORED[part]
    name = next(name for name in files if name.endswith(part))
    rewrite(excused, {k: v for k, v in files.items() if k != name} | ({name: data} if data else {}))
    assert f"{name}: {why}" in refused(excused)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 7), ("plugin", "other"), ("options", {}), ("case", {"id": "x"})]
)
def test_a_replay_of_another_run_or_case_is_refused(excused, key, value):
    files = contents(excused)
    name = next(name for name in files if name.endswith("problem.json"))
    said = json.dumps(json.loads(files[name]) | {key: value}).encode()
    rewrite(excused, files | {name: said})
    assert f"{name}: {key} is" in refused(excused)


def test_a_pickle_among_the_arrays_is_refused_and_not_opened(excused, tmp_path):
    np.savez(tmp_path / "evil.npz", operand0=np.array([{}], object))
    files = contents(excused)
    name = next(name for name in files if name.endswith("expected.npz"))
    rewrite(excused, files | {name: (tmp_path / "evil.npz").read_bytes()})
    assert "holds no arrays" in refused(excused)


@pytest.mark.parametrize(
    "name", ["replay/x/problem.json", "failures/x.json", "replay/../x.json", "replay/x/evil.sh"]
)
def test_a_kept_file_of_no_failure_is_refused(excused, name):
    rewrite(excused, contents(excused) | {name: b"{}"})
    assert name in refused(excused)


def test_a_case_file_that_says_another_case_is_refused(excused, device_cases):
    name = f"failures/{folder_name(device_cases[0].id)}.json"
    rewrite(excused, contents(excused) | {name: device_cases[1].to_json().encode()})
    assert f"{name}: is not the definition of {device_cases[0].id}" in refused(excused)


def test_a_report_that_lost_a_replay_folder_is_not_packaged(excused_folder, tmp_path):
    shutil.copytree(excused_folder, tmp_path / "report")
    shutil.rmtree(tmp_path / "report" / "replay")
    with pytest.raises(FailedPrecondition, match="keep the folder"):
        package(tmp_path / "report", STATEMENT, bundled(), tmp_path / "x.zip")


def test_merging_keeps_the_replay_folders(excused_folder, tmp_path):
    whole = tmp_path / "whole"
    assert main(["conformance", "merge", str(excused_folder), "-o", str(whole)]) == 0
    package(whole, STATEMENT, bundled(), tmp_path / "x.zip")
    assert verify(tmp_path / "x.zip").problems == ()


def result_of(report, index=0):
    return report["results"][index]


def edit_status(report, cases):
    result_of(report)["status"] = "unsupported"


def keep_wrong_elements(report, cases):
    result_of(report)["wrong"] = 3


def beyond_the_bound(report, cases):
    result_of(report)["error_over_bound"] = 1.5


def no_tier(report, cases):
    result_of(report)["tier"] = ""


def passed_with_a_reason(report, cases):
    result_of(report)["reason"] = "wrong"


def drop_result(report, cases):
    report["results"].pop(4)


def drop_result_and_case(report, cases):
    name = report["results"].pop(4)["id"]
    return [case for case in cases if case.id != name]


def double_result(report, cases):
    report["results"].append(copy.deepcopy(result_of(report)))


def rename_result(report, cases):
    result_of(report)["op"] = "Cast"


def easier_case(report, cases):
    return [replace(cases[0], parameters={"easy": True}), *cases[1:]]


def foreign_case(report, cases):
    return [*cases, replace(cases[0], id="fp8/x", profile=Profile.FP8)]


def waived_by_nothing(report, cases):
    result_of(report).update(status="waived", reason="known (https://x)", tier="")


def a_stale_waiver_row(report, cases):
    row = dict(result_of(report), id="gone/*", op="", profile="", formats=[], status="failed")
    report["results"].append(row)


def smoke(report, cases):
    report["level"] = "smoke"


def partial(report, cases):
    report["partial"] = True


def more_profiles(report, cases):
    report["profiles"] = ["device", "fp8"]


def other_suite(report, cases):
    report["suite"]["version"] = "9.9"


def a_failure(report, cases):
    result_of(report).update(status="failed", reason="wrong", tier="")


REWRITTEN = {
    keep_wrong_elements: "passed, with 3 wrong elements",
    beyond_the_bound: "1.5 times its bound",
    no_tier: "reached no tier",
    passed_with_a_reason: "passed, with a reason",
    drop_result: "no result",
    drop_result_and_case: "is missing, which this level and profile hold",
    double_result: "two results",
    rename_result: "filed under another",
    easier_case: "not defined as in the suite",
    foreign_case: "is not of this level and these profiles",
    waived_by_nothing: "waived by no entry of the waivers",
    a_stale_waiver_row: "a result of no case that is listed",
    smoke: "level smoke is not sufficient",
    partial: "the run is partial",
    more_profiles: "is missing, which this level and profile hold",
    other_suite: "verify with that version",
    a_failure: "the verdict is non-conformant",
}


@pytest.mark.parametrize("change", REWRITTEN, ids=lambda change: change.__name__)
def test_a_report_rewritten_with_all_that_follows_is_refused(made, change):
    redo(made, change)
    assert REWRITTEN[change] in refused(made)


@pytest.mark.parametrize("change", [edit_status, drop_result, a_failure, double_result])
def test_a_report_whose_results_alone_were_edited_contradicts_itself(made, change):
    redo(made, change, derive=False)
    assert "counts is not what follows from the results" in refused(made)


@pytest.mark.parametrize("key", ["verdict", "headline", "counts", "tiers", "claims"])
def test_what_follows_from_the_results_is_computed_again(made, key):
    def change(report, cases):
        if key == "claims":
            report[key][0]["verdict"] = "held"
        elif key in ("counts", "tiers"):
            report[key] = {next(iter(report[key])): 1}
        else:
            report[key] = {"verdict": "could-not-run", "headline": "all is well"}[key]

    redo(made, change, derive=False)
    assert f"{key} is not what follows from the results" in refused(made)


def test_pages_that_say_something_else_are_refused(made):
    files = contents(made)
    for name in ("report.html", "junit.xml"):
        rewrite(made, files | {name: files[name].replace(b"device", b"divine")})
        assert f"{name}: is not made from this report.json" in refused(made)


@pytest.mark.parametrize("key", ["product", "level", "case_digest", "claim"])
def test_a_statement_of_another_run_is_refused(made, key):
    files = contents(made)
    lines = files["statement.toml"].decode().splitlines()
    changed = [f'{key} = ""' if line.startswith(f"{key} =") else line for line in lines]
    rewrite(made, files | {"statement.toml": "\n".join(changed).encode()})
    assert "statement.toml: " in refused(made)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("report.json", b"[]"),
        ("report.json", b"{"),
        ("report.json", b'{"format": "2.0"}'),
        ("cases.jsonl", b"{}"),
        ("cases.jsonl", b"\xff"),
        ("timing.json", b"3"),
        ("statement.toml", b"= ="),
        ("MANIFEST.json", b"[]"),
        ("MANIFEST.json", b'{"format": "9.0"}'),
        ("MANIFEST.json", b'{"format": "1.0"}'),
    ],
)
def test_rubbish_is_a_problem_with_a_place_and_no_traceback(made, name, data, capsys):
    rewrite(made, contents(made) | {name: data}, rehash=name != "MANIFEST.json")
    assert name in refused(made)
    assert main(["conformance", "verify", str(made)]) == 1
    assert "REFUSED" in capsys.readouterr().out


def test_every_cut_of_a_package_is_refused(made, tmp_path):
    data = made.read_bytes()
    for length in range(0, len(data), len(data) // 20):
        cut = tmp_path / "cut.zip"
        cut.write_bytes(data[:length])
        with pytest.raises(InvalidArgument, match="not a package"):
            verify(cut)


def test_a_flipped_byte_is_refused_or_was_never_read(made, tmp_path):
    data = bytearray(made.read_bytes())
    original = verify(made).digest
    changed = tmp_path / "changed.zip"
    refused = 0
    for place in range(200, len(data) - 800, len(data) // 25):
        data[place] ^= 0x10
        changed.write_bytes(data)
        data[place] ^= 0x10
        try:
            found = verify(changed)
        except InvalidArgument:
            refused += 1
            continue
        refused += bool(found.problems)
        if not found.problems:  # a zip file has bits between its streams that mean nothing
            assert entries(changed) == entries(made)
            assert found.digest != original
    assert refused > 20


def entries(package):
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def waived(case):
    return Waiver(case.id, "firmware 1.2", "https://example.org/7", expected=False)


def test_a_waived_failure_can_be_submitted_with_its_reason(device_cases, tmp_path):
    first, *rest = device_cases
    waiver = waived(first)
    excused = failed(first).having(Status.WAIVED, f"{waiver.reason} ({waiver.link})")
    results = [excused, *map(passed, rest)]
    run = make_run(device_cases, results, profiles=(Profile.DEVICE,), waivers=(waiver,))
    write_data(as_json(run), {}, tmp_path / "r")
    package(tmp_path / "r", STATEMENT, bundled(), tmp_path / "p.zip")
    found = verify(tmp_path / "p.zip")
    assert found.problems == ()
    assert "1 waived" in found.statement["claim"]

    def without_link(report, cases):
        report["waivers"][0]["link"] = " "

    redo(tmp_path / "p.zip", without_link)
    assert "a waiver without reason or link" in refused(tmp_path / "p.zip")


def partial_run(cases):
    return make_run(cases[1:], map(passed, cases[1:]), profiles=(Profile.DEVICE,), partial=True)


def smoke_run(cases):
    chosen = select(cases, level=Level.SMOKE)
    return make_run(chosen, map(passed, chosen), profiles=(Profile.DEVICE,), level=Level.SMOKE)


def failing_run(cases):
    results = [failed(cases[0]), *map(passed, cases[1:])]
    return make_run(cases, results, profiles=(Profile.DEVICE,))


@pytest.mark.parametrize(
    ("make", "text"),
    [(partial_run, "partial"), (smoke_run, "smoke"), (failing_run, "non-conformant")],
)
def test_a_report_that_proves_nothing_is_not_packaged(device_cases, tmp_path, make, text):
    write_data(as_json(make(device_cases)), {}, tmp_path / "r")
    with pytest.raises(FailedPrecondition, match=text):
        package(tmp_path / "r", STATEMENT, bundled(), tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()


def test_the_command_asks_for_a_whole_statement(folder, tmp_path, capsys):
    target = str(tmp_path / "p.zip")
    arguments = ["conformance", "package", str(folder), "-o", target, "--vendor", "Acme"]
    assert main([*arguments, "--product", "N", "--version", "1"]) == 3
    assert "--signer" in capsys.readouterr().err
    assert main([*arguments, "--product", "N", "--version", "1", "--signer", " "]) == 3
    assert main([*arguments, "--product", "N", "--version", "1", "--signer", "J"]) == 0
    assert main(["conformance", "verify", target]) == 0


# -- merging ---------------------------------------------------------------------------------


def shards(cases, count, **more):
    return [
        (
            f"s{index}",
            as_json(
                make_run(
                    cases[index::count],
                    map(passed, cases[index::count]),
                    profiles=(Profile.DEVICE,),
                    partial=True,
                    **more,
                )
            ),
        )
        for index in range(count)
    ]


def test_all_shards_make_the_whole_run(device_cases, whole):
    merged = merge(shards(device_cases, 3)[::-1], bundled())
    assert merged == as_json(whole)


def test_a_missing_shard_leaves_the_report_partial(device_cases):
    assert merge(shards(device_cases, 3)[:2], bundled())["partial"]


def test_shards_of_other_runs_are_refused(device_cases):
    one, other = shards(device_cases, 2)
    with pytest.raises(InvalidArgument, match="both hold"):
        merge([one, one], bundled())
    with pytest.raises(InvalidArgument, match="differ in seed"):
        merge([one, (other[0], other[1] | {"seed": 3})], bundled())
    foreign = other[1] | {"suite": other[1]["suite"] | {"version": "9"}}
    with pytest.raises(InvalidArgument, match="suite version"):
        merge([one, (other[0], foreign)], bundled())
    with pytest.raises(InvalidArgument, match="no case"):
        merge([one, other], bundled()[:5])


def test_a_waiver_is_stale_only_if_no_shard_needed_it(device_cases):
    (_, one), (_, other) = shards(device_cases, 2)
    waiver = waived(device_cases[0])
    entry = {"id": waiver.pattern, "kind": "waiver", "reason": waiver.reason, "link": waiver.link}
    stale = one["results"][1] | {"id": waiver.pattern, "op": "", "profile": "", "formats": []}
    stale |= {"status": "failed", "reason": "stale"}
    used = one["results"][0] | {"status": "waived", "reason": f"{waiver.reason} ({waiver.link})"}
    one |= {"waivers": [entry], "results": [used, *one["results"][1:]]}
    other |= {"waivers": [entry], "results": [*other["results"], stale]}
    merged = merge([("a", one), ("b", other)], bundled())
    assert merged["counts"] == {"passed": len(device_cases) - 1, "waived": 1}
    one["results"][0] = used | {"status": "passed", "reason": ""}
    again = merge([("a", one), ("b", other)], bundled())
    assert again["counts"] == {"failed": 1, "passed": len(device_cases)}


def test_the_merge_command(device_cases, tmp_path, capsys):
    for name, report in shards(device_cases, 2):
        timing = {result["id"]: 0.5 for result in report["results"]}
        write_data(report, timing, tmp_path / name)
    names = [str(tmp_path / name) for name in ("s0", "s1")]
    assert main(["conformance", "merge", *names, "-o", str(tmp_path / "all")]) == 0
    assert "CONFORMANT to device" in capsys.readouterr().out
    timing = json.loads((tmp_path / "all" / "timing.json").read_text())
    assert len(timing) == len(device_cases)
    assert main(["conformance", "merge", *names, "-o", names[0]]) == 3
