"""Commands that repair a partition's journal: ``skip``, ``reject``, ``topics grow`` and ``end-transaction``, and what they share."""
