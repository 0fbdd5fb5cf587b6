"""What is trained: one LightningModule a method."""
