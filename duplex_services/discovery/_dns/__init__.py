"""The directory as DNS tells it: names below one zone, over UDP and TCP, from the same view as everything else."""
