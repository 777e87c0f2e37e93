"""The computed checks, a module for each work; `gwf.claims.registry.computed` imports them all."""
