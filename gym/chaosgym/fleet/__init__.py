"""One recording by many pods: what they are to do, the Jobs that it becomes, and how far they are."""
