"""The cores that a control group's quota gives."""

import pytest

from nbbn import quota


def group(folder, quota_text=None, **files):
    folder.mkdir(parents=True, exist_ok=True)
    if quota_text is not None:
        (folder / "cpu.max").write_text(quota_text + "\n")
    for name, text in files.items():
        (folder / f"cpu.{name}").write_text(f"{text}\n")


def cores(tmp_path, lines=()):
    process = tmp_path / "process"
    process.write_text("".join(f"{line}\n" for line in lines))
    return quota.cores(str(tmp_path / "groups"), str(process))


@pytest.mark.parametrize("text, expected", [
    ("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("20000 100000", 1),
    ("nonsense", None), ("", None),
])
def test_the_quota_of_a_container(tmp_path, text, expected):
    group(tmp_path / "groups", text)
    assert cores(tmp_path, ["0::/"]) == expected


@pytest.mark.parametrize("microseconds, expected", [(-1, None), (300000, 3), (1000, 1)])
def test_the_quota_of_version_1(tmp_path, microseconds, expected):
    group(tmp_path / "groups" / "cpu", cfs_quota_us=microseconds, cfs_period_us=100000)
    assert cores(tmp_path, ["4:memory:/a", "3:cpu,cpuacct:/"]) == expected


def test_the_smallest_of_the_groups_above_counts(tmp_path):
    groups = tmp_path / "groups"
    group(groups, "max 100000")
    group(groups / "system.slice", "200000 100000")
    group(groups / "system.slice" / "serve.service", "400000 100000")
    assert cores(tmp_path, ["0::/system.slice/serve.service"]) == 2


def test_without_control_groups_there_is_none(tmp_path):
    assert cores(tmp_path) is None
    assert quota.cores(str(tmp_path / "no"), str(tmp_path / "no")) is None
