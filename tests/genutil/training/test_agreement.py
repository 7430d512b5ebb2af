from __future__ import annotations

import torch
from lightning_fabric import Fabric

from genutil.training.agreement import digest, require_same_edges


def test_a_digest_tells_every_edge_and_its_place() -> None:
    mask = torch.zeros(1000, dtype=torch.bool)
    seen = {digest(mask)}
    for edge in range(1000):
        mask[edge] = True
        seen.add(digest(mask))
        mask[edge] = False
    assert len(seen) == 1001
    assert all(0 <= value < 2**63 for value in seen)
    assert digest(mask.clone()) == digest(mask)


def test_one_process_agrees_with_itself() -> None:
    require_same_edges(Fabric(accelerator="cpu", devices=1), {"graph": torch.ones(3, dtype=torch.bool)}, 1)
