from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forethought.models import bundle as bundle_module
from forethought.models.bundle import FILES, MANIFEST, PolicyBundle, pretrained_dir
from forethought.models.errors import BundleError
from forethought.models.features import matrix
from tests.models.synthetic import Decisions


@pytest.fixture
def folder(bundle: PolicyBundle, tmp_path: Path) -> Path:
    return bundle.save(tmp_path / "bundles" / "policy")


def test_a_loaded_bundle_predicts_the_same(
    bundle: PolicyBundle, folder: Path, decisions: Decisions
) -> None:
    loaded, inputs = PolicyBundle.load(folder), matrix(decisions.rows, decisions.strategies)
    before, after = bundle.outcome.predict(inputs), loaded.outcome.predict(inputs)
    for field in dataclasses.fields(before):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    np.testing.assert_array_equal(
        bundle.predictability.predict(decisions.rows), loaded.predictability.predict(decisions.rows)
    )
    assert loaded.demand == bundle.demand
    assert (loaded.version, loaded.manifest) == (bundle.version, bundle.manifest)


def test_the_version_follows_the_contents(bundle: PolicyBundle) -> None:
    def version(**info: str) -> str:
        return PolicyBundle.build(
            predictability=bundle.predictability,
            outcome=bundle.outcome,
            demand=bundle.demand,
            info=info,
        ).version

    assert version(data="synthetic") == bundle.version
    assert version(data="other") != bundle.version


def test_a_loaded_bundle_saves_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = PolicyBundle.load(folder).save(tmp_path / "again")
    for name in (*FILES, MANIFEST):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b" ")
    _assert_refused(folder, folder / name, "sha256")


@pytest.mark.parametrize("name", [*sorted(FILES), MANIFEST])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    _assert_refused(folder, folder / name, "cannot be read")


def _assert_refused(folder: Path, file: Path, match: str) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        PolicyBundle.load(folder)
    assert caught.value.param == str(file)
    assert "forethought train" in str(caught.value)


def _truncate(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest)[:100]


def _edited(key: str, value: object, *, signed: bool = True) -> Callable[[dict[str, Any]], str]:
    def edit(manifest: dict[str, Any]) -> str:
        manifest[key] = value
        if signed:
            manifest["version"] = bundle_module._version(manifest)
        return json.dumps(manifest)

    return edit


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        pytest.param(_truncate, "not a bundle's manifest", id="truncated"),
        pytest.param(lambda _: "[]", "not a bundle's manifest", id="not-an-object"),
        pytest.param(lambda _: "{}", "not a bundle's manifest", id="empty"),
        pytest.param(_edited("schema", 99), "schema 99", id="schema"),
        pytest.param(_edited("feature_version", "0"), "version '0'", id="feature-version"),
        pytest.param(_edited("feature_names", ["a"]), "features of version", id="features"),
        pytest.param(_edited("files", {"../x": "00"}), "was changed", id="other-files"),
        pytest.param(_edited("info", {}, signed=False), "was changed", id="unsigned-change"),
    ],
)
def test_a_wrong_manifest_is_refused(
    folder: Path, edit: Callable[[dict[str, Any]], str], match: str
) -> None:
    path = folder / MANIFEST
    path.write_text(edit(json.loads(path.read_text())))
    _assert_refused(folder, path, match)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("outcome_tokens.txt", "nonsense", id="model"),
        pytest.param("outcome.json", "{}", id="json-without-fields"),
        pytest.param("demand.json", '{"alpha": 0.5, "beta": 1}', id="impossible-values"),
        pytest.param("predictability.json", "[", id="not-json"),
    ],
)
def test_a_correctly_signed_but_senseless_file_is_refused(
    folder: Path, name: str, content: str
) -> None:
    (folder / name).write_text(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = bundle_module._sha256(content.encode())
    manifest["version"] = bundle_module._version(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    _assert_refused(folder, folder, "cannot be read")


def test_saving_again_replaces_the_whole_folder(bundle: PolicyBundle, folder: Path) -> None:
    (folder / "leftover.txt").write_text("from an older bundle")
    bundle.save(folder)
    assert {path.name for path in folder.iterdir()} == {*FILES, MANIFEST}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "step",
    [pytest.param("_write_durably", id="writing"), pytest.param("_flush_folder", id="flush")],
)
def test_a_failed_save_leaves_the_old_bundle(
    bundle: PolicyBundle, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, step, full_disk)
        with pytest.raises(BundleError, match="No space left"):
            bundle.save(folder)
    assert PolicyBundle.load(folder).version == bundle.version
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_file_in_the_way_of_the_parent_folder_is_named(
    bundle: PolicyBundle, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="cannot be written"):
        bundle.save(tmp_path / "file" / "policy")


def test_the_pretrained_folder_is_inside_the_package() -> None:
    assert pretrained_dir().parts[-3:] == ("models", "pretrained", "default")
