"""Training on TRL: a tokenizer and a nano model from nothing, pretraining, supervised fine-tuning, distillation, GRPO and PPO.

    episodes ──> tasks ──> pretrain (reads) ──> sft or distill (answers) ──> grpo or ppo (answers better) ──> a model folder

Nothing here is imported before a training command runs: torch and TRL take seconds to load.
"""
