"""Training of the embedded policy: data set, training-only heads, stages."""
