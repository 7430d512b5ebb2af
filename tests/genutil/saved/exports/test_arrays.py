from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from genutil.errors import UserError
from genutil.saved.exports import arrays
from models.sparse import storage, whole_graph
from models.sparse.graph import compute_planes
from tests.genutil.saved.exports.checkpoints_made import KINDS, WHOLE, assert_same, exported, images


@pytest.mark.parametrize("kind", WHOLE)
def test_the_graph_of_the_file_is_the_network(kind: str, tmp_path: Path):
    what = exported(kind)
    path = tmp_path / "graph.npz"
    path.write_bytes(arrays.write(what))
    graph = storage.load(path)
    image = images(1)
    logits = compute_planes(graph, image[0].numpy())[-1].reshape(1, -1)
    assert_same(what.network, image, logits)


def test_numpy_alone_reads_the_edges():
    what = exported("static")
    with np.load(BytesIO(arrays.write(what)), allow_pickle=False) as file:
        count = sum(len(file[name]) for name in file.files if name.endswith(".edges.indices"))
    assert count == whole_graph(what.network).edge_count > 0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(WHOLE)))
def test_a_network_that_is_no_graph_is_refused(kind: str):
    with pytest.raises(UserError, match="as a whole is no channel graph"):
        arrays.write(exported(kind))
