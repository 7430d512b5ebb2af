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


def test_images_without_a_known_normalisation_are_refused():
    what = exported("static")
    unknown = replace(what, experiment=what.experiment.but(data="leaves"))
    with pytest.raises(UserError, match="give --mean and --std"):
        c_source.write(unknown)
    given = replace(what, experiment=what.experiment.but(data="leaves", mean=[0.5] * 3, std=[0.25] * 3))
    assert b"leaves" in c_source.write(given)
