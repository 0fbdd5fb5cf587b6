"""`sslam fit`, `validate`, `test`, `predict`, `plan` and `slurm`."""
