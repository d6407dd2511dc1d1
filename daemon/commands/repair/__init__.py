"""Commands that repair a partition's journal: ``skip``, ``topics grow`` and ``end-transaction``, and what they share."""
