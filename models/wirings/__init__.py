"""The rules that say which edges act, and how they wire any network."""

import models.wirings.scheduled  # noqa: F401  adds the rivals' rules to WIRINGS
