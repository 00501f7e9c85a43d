"""One file per pass, one .rules file per family of rewrites."""
