from __future__ import annotations

import io
import json

import pytest
import torch

from genutil.errors import UserError
from genutil.saved.exports import torch_export
from tests.genutil.saved.exports.checkpoints_made import assert_same, exported, images


@pytest.mark.parametrize(
    "kind",
    ["static", "wired_resnet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("resnet", "randwire_dnw"))],
)
def test_torch_reads_the_program_and_gives_the_networks_logits(kind: str):
    what = exported(kind)
    extra = {torch_export.DESCRIPTION: ""}
    program = torch.export.load(io.BytesIO(torch_export.write(what)), extra_files=extra).module()
    for batch in (1, 7, 32):
        given = images(batch)
        with torch.no_grad():
            assert_same(what.network, given, program(given))
    assert json.loads(extra[torch_export.DESCRIPTION])["settings"]["model"] == what.experiment.model


def test_a_network_whose_steps_depend_on_the_image_is_refused(capfd: pytest.CaptureFixture):
    with pytest.raises(UserError, match="depend on values that it computes"):
        torch_export.write(exported("continuous_time"))
    assert capfd.readouterr() == ("", "")
