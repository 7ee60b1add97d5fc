"""From a scenario and a seed to an episode on disk: the timeline, the worker process, the pool, the recorder."""
