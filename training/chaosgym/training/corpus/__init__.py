"""A corpus: text to pre-train on, read from anywhere and cleaned.

    sources ──> normalise ──> language, quality ──> scrub ──> exact and near duplicates ──> Parquet shards, report

`config` says what, `sources` read, `quality`, `scrub` and `duplicates` are one step each, `build` puts them together,
`report` counts, `shards` writes and reads. MinHash is datasketch's, languages py3langid's, patterns of secrets those of
detect-secrets: all work offline. datatrove was left aside: its processing extra wants an older xxhash than our constraints
pin, and its language filter fetches a model when it first runs.
"""
