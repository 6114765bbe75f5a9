"""Camera images: topics, decoding, synchronisation, crop and rotation."""
