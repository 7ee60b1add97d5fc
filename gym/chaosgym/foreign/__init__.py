"""Applications that are not ours: they run already, and chaosgym may do to them what their file allows and nothing else.

    FILE ── load ──> ForeignApp ── plan ──> Plan ── record ──> an episode as any other
                         │                             │
                         └── host (Docker, Kubernetes) ┴── journal: how each change is undone, on disk before it is made

`sandbox` offers the faults of the catalogue the same capabilities as chaosgym's own sandboxes do; `refusal` says which of them
cannot be used, and why.
"""
