"""Training on TRL: a tokenizer and a nano model from nothing, pretraining, supervised fine-tuning and GRPO.

    episodes ──> tasks ──> pretrain (reads) ──> sft (answers) ──> grpo (answers better) ──> a model folder

Nothing here is imported before a training command runs: torch and TRL take seconds to load.
"""
