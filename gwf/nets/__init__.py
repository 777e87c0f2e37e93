"""Networks: maps T from the latent space and critics h."""
