from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genutil.errors import UserError
from genutil.saved.exports import c_source
from tests.genutil.saved.exports.checkpoints_made import KINDS, WHOLE, exported
from tests.models.sparse.c_program.compilers import build, logits


@pytest.mark.parametrize("kind", WHOLE)
def test_the_program_classifies_bytes_as_the_network_does(kind: str, tmp_path: Path):
    what = exported(kind)
    source = tmp_path / f"{kind}.c"
    source.write_bytes(c_source.write(what))
    pixels = np.random.default_rng(2).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in what.normalisation)
    with torch.no_grad():
        expected = what.network(((torch.from_numpy(pixels) / 255 - mean) / std)[None])[0].numpy()
    found = logits([build(source)], pixels, tmp_path, planar=True)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(WHOLE)))
def test_a_network_that_is_no_graph_is_refused(kind: str):
    with pytest.raises(UserError, match="as a whole is no channel graph"):
        c_source.write(exported(kind))


def test_a_folder_of_images_has_the_normalisation_that_training_gives_it():
    what = exported("static")
    folder = replace(what, experiment=what.experiment.but(data="leaves"))
    assert b"0.485f, 0.456f, 0.406f" in c_source.write(folder)
    given = replace(what, experiment=what.experiment.but(data="leaves", mean=[0.5] * 3, std=[0.25] * 3))
    assert b"0.25f, 0.25f, 0.25f" in c_source.write(given)


def test_classes_have_their_names():
    named = replace(exported("static"), class_names=tuple("abcdefghij"))
    assert b'"a", \\\n    "b"' in c_source.write(named)
