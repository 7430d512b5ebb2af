"""An experiment's life: settings, training, evaluation, checkpoints, profiling and logs."""
