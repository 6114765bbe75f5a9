"""The digest in a report tells one set of weights from another, for names, folders and files."""

from __future__ import annotations

import hashlib

from efficientvla_ros.evaluation.provenance import model_digest


def test_a_folder_changes_its_digest_with_content_and_names(tmp_path):
    weights = tmp_path / 'checkpoints' / 'a.pt'
    weights.parent.mkdir()
    weights.write_bytes(b'x' * 5_000_000)
    seen = {model_digest(str(tmp_path))}
    weights.write_bytes(b'x' * 4_999_999 + b'y')
    seen.add(model_digest(str(tmp_path)))
    weights.rename(weights.with_name('b.pt'))
    seen.add(model_digest(str(tmp_path)))
    assert len(seen) == 3 and '' not in seen


def test_a_file_can_be_the_model(tmp_path):
    path = tmp_path / 'a.pt'
    path.write_bytes(b'weights' * 1_000_000)
    expected = hashlib.sha256(b'a.pt' + path.read_bytes()).hexdigest()
    assert model_digest(str(path)) == expected


def test_a_name_without_files_has_no_digest(tmp_path):
    assert model_digest('cogact-base') == model_digest('') == ''
    assert model_digest(str(tmp_path / 'none')) == ''
